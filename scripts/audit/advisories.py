"""Sources of advisories: the package safety-db, and folders of records in OSV's format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.audit.locks import NPM, PYPI, Package, normalized
from scripts.audit.versions import UnreadableVersion, within_events, within_specifier

_ECOSYSTEMS: Final = (PYPI, NPM)
_Loader: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnusableSource(Exception):
    """The source is missing or contains no advisories."""


@dataclass(frozen=True)
class Finding:
    """A package of a lock that an advisory says is vulnerable."""

    package: Package
    ids: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Report:
    """Answer of one source.

    Attributes:
        as_of: the day of its newest advisory.
        known: number of packages of the locks that have advisories in the source.
        unreadable: advisories that cannot be compared, each with its package.
    """

    source: str
    as_of: date
    ecosystems: tuple[str, ...]
    known: int
    findings: tuple[Finding, ...]
    unreadable: tuple[str, ...] = field(default=())


def ask_safety_db(folder: Path, packages: Iterable[Package]) -> Report:
    """Compare packages with the advisories of safety-db.

    Args:
        folder: the folder with the installed package.

    Raises:
        UnusableSource: the data is missing.
    """
    try:
        data = json.loads((folder / "safety_db" / "insecure_full.json").read_text())
        as_of = datetime.fromtimestamp(data["$meta"]["timestamp"], UTC).date()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableSource(f"safety-db is not in {folder}") from error
    records = {normalized(name): entries for name, entries in data.items() if name != "$meta"}
    known, findings, unreadable = set(), [], []
    for package in packages:
        if package.ecosystem != PYPI or package.name not in records:
            continue
        known.add(package.name)
        for entry in records[package.name]:
            try:
                affected = any(within_specifier(package.version, specifier) for specifier in entry["specs"])
            except UnreadableVersion:
                unreadable.append(f"{entry['id']} of {package.name}")
                continue
            if affected:
                ids = tuple(one for text in (entry["id"], entry.get("cve") or "") for one in text.split(",") if one)
                findings.append(Finding(package, ids, entry["advisory"]))
    return Report("safety-db", as_of, (PYPI,), len(known), tuple(findings), tuple(unreadable))


def ask_folder(folder: Path, packages: Iterable[Package]) -> Report:
    """Compare packages with a folder of OSV records, such as a clone of the advisory database of PyPA or GitHub.

    Raises:
        UnusableSource: the folder has no record.
    """
    wanted: dict[tuple[str, str], list[Package]] = {}
    for package in packages:
        wanted.setdefault((package.ecosystem, package.name), []).append(package)
    newest, ecosystems, known = date.min, set(), set()
    findings: list[Finding] = []
    unreadable: list[str] = []
    for record in _records(folder):
        newest = max(newest, date.fromisoformat(str(record["modified"])[:10]))
        if record.get("withdrawn"):
            continue
        for affected in record["affected"]:
            ecosystem, name = _subject(affected)
            if ecosystem in _ECOSYSTEMS:
                ecosystems.add(ecosystem)
            for package in wanted.get((ecosystem, name), ()):
                known.add((ecosystem, name))
                try:
                    if not _is_affected(package, affected):
                        continue
                except UnreadableVersion:
                    unreadable.append(f"{record['id']} of {name}")
                    continue
                ids = (str(record["id"]), *map(str, record.get("aliases") or ()))
                summary = str(record.get("summary") or record.get("details") or "")
                findings.append(Finding(package, ids, summary))
    if not ecosystems:
        raise UnusableSource(f"{folder} has no advisories in OSV's format")
    return Report(str(folder), newest, tuple(sorted(ecosystems)), len(known), tuple(findings), tuple(unreadable))


def _subject(affected: Mapping[str, Any]) -> tuple[str, str]:
    package = affected.get("package") or {}
    ecosystem, name = str(package.get("ecosystem", "")), str(package.get("name", ""))
    return ecosystem, normalized(name) if ecosystem == PYPI else name


def _is_affected(package: Package, affected: Mapping[str, Any]) -> bool:
    if package.version in map(str, affected.get("versions") or ()):
        return True
    ranges = [one for one in affected.get("ranges") or () if one.get("type") in ("ECOSYSTEM", "SEMVER")]
    return any(within_events(package.ecosystem, package.version, one["events"]) for one in ranges)


def _records(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".yaml", ".yml") or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            record = json.loads(text) if path.suffix == ".json" else _load_yaml(text)
        except (OSError, ValueError, yaml.YAMLError):
            continue
        if isinstance(record, dict) and "id" in record and "modified" in record and record.get("affected"):
            yield record


def _load_yaml(text: str) -> Any:
    # Configuration files in a clone are no records, and reading them costs time.
    return yaml.load(text, Loader=_Loader) if re.search(r"^affected:", text, re.MULTILINE) else None  # noqa: S506  # a safe loader
