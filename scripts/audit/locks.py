"""Readers of the lock files: requirements with hashes, and package-lock.json of npm."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]
PYPI: Final = "PyPI"
NPM: Final = "npm"
# Folders without files of the project itself.
FOREIGN: Final = frozenset({".venv", ".cache", ".git", ".myctobot", "build", "node_modules"})
_PIN: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(\[[a-z0-9,._-]+\])?==([A-Za-z0-9.!+_-]+)( ?;.*)?")
_HASH: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_INTEGRITY: Final = re.compile(r"sha512-[A-Za-z0-9+/]{86}==")


@dataclass(frozen=True)
class Package:
    """One package of a lock.

    Attributes:
        name: normalized, so that every spelling of it is the same.
        lock: the file, relative to the checkout.
    """

    ecosystem: str
    name: str
    version: str
    lock: str


@dataclass(frozen=True)
class Requirement:
    """One entry of a requirements file: its first part, and the options that follow."""

    text: str
    options: tuple[str, ...]

    def pin(self) -> tuple[str, str] | None:
        """Return the normalized name and the version, or None when the entry pins none."""
        found = _PIN.fullmatch(self.text)
        return (normalized(found[1]), found[3]) if found else None

    def is_hashed(self) -> bool:
        return bool(self.options) and all(_HASH.fullmatch(option) for option in self.options)


def normalized(name: str) -> str:
    """Return the normalized name of a Python package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> Iterator[Requirement]:
    """Read a requirements file, with its continued lines and without its comments."""
    joined = re.sub(r"\\\n", " ", text)
    for line in joined.splitlines():
        content = re.sub(r"(^|\s)#.*", "", line).strip()
        if content:
            first, *options = re.split(r"\s+(?=--)", content)
            yield Requirement(first, tuple(option.strip() for option in options))


def pins(text: str) -> list[tuple[str, str]]:
    """Return the packages that a requirements file pins; two entries may differ only in their markers."""
    return [pin for requirement in requirements(text) if (pin := requirement.pin())]


def npm_entries(text: str) -> dict[str, dict[str, Any]]:
    """Return the packages of a package-lock.json by their path, without the project itself."""
    packages: dict[str, dict[str, Any]] = json.loads(text).get("packages", {})
    return {path: entry for path, entry in packages.items() if path}


def has_integrity(entry: dict[str, Any]) -> bool:
    return bool(_INTEGRITY.fullmatch(str(entry.get("integrity", ""))))


def files(root: Path, pattern: str) -> list[Path]:
    """Return the project's own files of a name, in their order."""
    found = root.rglob(pattern)
    return sorted(path for path in found if not FOREIGN.intersection(path.relative_to(root).parts))


def python_locks(root: Path) -> list[Path]:
    """Return each requirements file that is a lock: one with a short file next to it."""
    return [path.with_suffix(".txt") for path in files(root, "*.in")]


def locked(root: Path) -> list[Package]:
    """Return every package of every lock below a folder."""
    found = []
    for path in python_locks(root):
        lock = str(path.relative_to(root))
        found += [Package(PYPI, name, version, lock) for name, version in pins(path.read_text())]
    for path in files(root, "package-lock.json"):
        lock = str(path.relative_to(root))
        for where, entry in npm_entries(path.read_text()).items():
            found.append(Package(NPM, where.rpartition("node_modules/")[2], str(entry.get("version", "")), lock))
    return found
