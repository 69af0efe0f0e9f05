"""Findings that are accepted for a time, each with its reason."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from scripts.audit.advisories import Finding


class BadExceptions(Exception):
    """The file of exceptions cannot be read."""


@dataclass(frozen=True)
class Exempt:
    """One accepted finding; after its last day it is a finding again."""

    id: str
    package: str
    reason: str
    expires: date

    def covers(self, finding: Finding) -> bool:
        return self.id in finding.ids and self.package == finding.package.name

    def is_valid(self, today: date) -> bool:
        return today <= self.expires


def read(path: Path) -> list[Exempt]:
    """Read the file of exceptions.

    Raises:
        BadExceptions: the file is not TOML, or an entry lacks its package, its reason or its last day.
    """
    try:
        entries = tomllib.loads(path.read_text()).get("exception", [])
    except (OSError, ValueError) as error:
        raise BadExceptions(f"{path}: {error}") from error
    return [_entry(path, number, entry) for number, entry in enumerate(entries, 1)]


def _entry(path: Path, number: int, entry: dict[str, Any]) -> Exempt:
    if entry.keys() != {"id", "package", "reason", "expires"}:
        raise BadExceptions(f"{path}: exception {number} must have id, package, reason and expires, and nothing else")
    exempt = Exempt(**entry)
    texts = (exempt.id, exempt.package, exempt.reason)
    if not all(isinstance(text, str) and text.strip() for text in texts) or type(exempt.expires) is not date:
        raise BadExceptions(f"{path}: exception {number} needs texts, and a date such as 2027-01-31 for expires")
    return exempt
