"""Order of versions and ranges of versions, for Python packages and for packages of npm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from scripts.audit.locks import NPM

_SEMVER: Final = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+.*)?")

Key = Version | tuple[Any, ...]


class UnreadableVersion(ValueError):
    """The version or range is not written by the rules of its ecosystem."""


def key(ecosystem: str, text: str) -> Any:
    """Return the sort key of a version in its ecosystem.

    Raises:
        UnreadableVersion: the version does not follow the rules.
    """
    if ecosystem == NPM:
        return _semver_key(text)
    try:
        return Version(text)
    except InvalidVersion as error:
        raise UnreadableVersion(text) from error


def _semver_key(text: str) -> tuple[Any, ...]:
    found = _SEMVER.fullmatch(text.strip())
    if found is None:
        raise UnreadableVersion(text)
    numbers = tuple(int(part or 0) for part in found.groups()[:3])
    if found[4] is None:
        return (*numbers, 1, ())
    # Numbers come before words, and a release comes after all that precede it.
    words = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in found[4].split("."))
    return (*numbers, 0, words)


def within_events(ecosystem: str, version: str, events: Iterable[Mapping[str, str]]) -> bool:
    """Return whether a version is affected by a range of OSV's format.

    Raises:
        UnreadableVersion: the version or an event does not follow the rules.
    """
    here = key(ecosystem, version)
    affected = False
    for kind, at in _in_order(ecosystem, events):
        if at is None or at <= here:
            # The last affected version is affected itself; the first fixed one is not.
            affected = kind == "introduced" or (affected and kind == "last_affected" and at == here)
    return affected


def _in_order(ecosystem: str, events: Iterable[Mapping[str, str]]) -> list[tuple[str, Any]]:
    """Sort the events by version; "0" comes before every version and is None here."""
    known = [pair for event in events for pair in event.items() if pair[0] in ("introduced", "fixed", "last_affected")]
    first = [(kind, None) for kind, text in known if text == "0"]
    rest = [(kind, key(ecosystem, text)) for kind, text in known if text != "0"]
    # At the same version a range that ends comes before one that begins.
    return first + sorted(rest, key=lambda pair: (pair[1], pair[0] == "introduced"))


def within_specifier(version: str, specifier: str) -> bool:
    """Return whether a Python package's version is within a specifier such as ``>=2.0,<2.0.3``.

    Raises:
        UnreadableVersion: one of them does not follow the rules.
    """
    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except (InvalidSpecifier, InvalidVersion) as error:
        raise UnreadableVersion(f"{version} in {specifier}") from error
