"""Sources of the audit: versions, ranges, records of OSV, safety-db and the locks themselves."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scripts.audit.advisories import UnusableSource, ask_folder, ask_safety_db
from scripts.audit.locks import NPM, PYPI, Package, locked, requirements
from scripts.audit.versions import UnreadableVersion, key, within_events, within_specifier

FIXED = [{"introduced": "2.0"}, {"fixed": "2.0.3"}, {"introduced": "3.0"}, {"last_affected": "3.1"}]


@pytest.mark.parametrize(
    ("version", "affected"),
    [("1.9", False), ("2.0", True), ("2.0.2", True), ("2.0.3", False), ("2.0.3rc1", True), ("2.5", False),
     ("3.0", True), ("3.1", True), ("3.1.0", True), ("3.1.post1", False), ("4", False)],
)  # fmt: skip
@pytest.mark.parametrize("events", [FIXED, FIXED[::-1]], ids=["in order", "in no order"])
def test_ranges(version: str, affected: bool, events: list[dict[str, str]]) -> None:
    assert within_events(PYPI, version, events) is affected


@pytest.mark.parametrize(
    ("events", "affected"),
    [
        ([{"introduced": "0"}], True),
        ([{"introduced": "0"}, {"fixed": "1.0"}], False),
        ([{"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "1.0"}], True),
        ([{"introduced": "0", "fixed": "9"}], True),
        ([{"introduced": "0"}, {"limit": "0.5"}], True),
        ([], False),
    ],
)
def test_ranges_around_one_version(events: list[dict[str, str]], affected: bool) -> None:
    assert within_events(PYPI, "1.0", events) is affected


def test_versions_of_npm_are_in_the_order_of_semver() -> None:
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.0.10",
               "1.2.0", "1.64.0-alpha-1790635538000", "1.64.0", "10.0.0"]  # fmt: skip
    keys = [key(NPM, version) for version in ordered]
    assert keys == sorted(keys)
    assert key(NPM, "1.2.3+build") == key(NPM, "v1.2.3")


@pytest.mark.parametrize(("ecosystem", "text"), [(PYPI, "latest"), (NPM, "latest"), (NPM, "1.x"), (NPM, "")])
def test_versions_that_follow_no_rules(ecosystem: str, text: str) -> None:
    with pytest.raises(UnreadableVersion):
        key(ecosystem, text)


@pytest.mark.parametrize(
    ("version", "specifier", "affected"),
    [("1.0", "<1.0", False), ("1.0", "<=1.0", True), ("2.1a1", ">=2.0,<3", True), ("1.0", ">=1.1,<1.2", False)],
)
def test_specifiers(version: str, specifier: str, affected: bool) -> None:
    assert within_specifier(version, specifier) is affected


def test_a_specifier_that_follows_no_rules() -> None:
    with pytest.raises(UnreadableVersion):
        within_specifier("1.0", "before 2")


def record(name: str = "Django", ecosystem: str = PYPI, **more: Any) -> dict[str, Any]:
    affected = {"package": {"ecosystem": ecosystem, "name": name},
                "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "5.0"}]}]}  # fmt: skip
    return {"id": "X-1", "modified": "2027-01-02T03:04:05Z", "aliases": ["CVE-1"], "affected": [affected]} | more


def ask(folder: Path, *records: dict[str, Any], version: str = "4.2") -> list[tuple[str, ...]]:
    for number, one in enumerate(records):
        (folder / f"{number}.json").write_text(json.dumps(one))
    packages = [Package(PYPI, "django", version, "a.txt"), Package(NPM, "@a/b", version, "b.json")]
    return [finding.ids for finding in ask_folder(folder, packages).findings]


@pytest.mark.parametrize("version", ["4.2", "0.1", "5.0rc1"])
def test_an_affected_version(tmp_path: Path, version: str) -> None:
    assert ask(tmp_path, record(), version=version) == [("X-1", "CVE-1")]


@pytest.mark.parametrize(
    "other",
    [record(withdrawn="2027-01-03T00:00:00Z"), record("flask"), record(ecosystem=NPM), record("django", "Maven")],
)
def test_records_of_something_else(tmp_path: Path, other: dict[str, Any]) -> None:
    assert ask(tmp_path, other, record("flask")) == []


def test_versions_may_be_listed_alone(tmp_path: Path) -> None:
    listed = {"package": {"ecosystem": PYPI, "name": "django"}, "versions": ["4.2"]}
    assert ask(tmp_path, record(affected=[listed])) == [("X-1", "CVE-1")]


def test_a_range_of_commits_alone_says_nothing_of_versions(tmp_path: Path) -> None:
    commits = {"package": {"ecosystem": PYPI, "name": "django"},
               "ranges": [{"type": "GIT", "events": [{"introduced": "0"}]}]}  # fmt: skip
    assert ask(tmp_path, record(affected=[commits])) == []


def test_a_package_of_npm(tmp_path: Path) -> None:
    semver = {"package": {"ecosystem": NPM, "name": "@a/b"},
              "ranges": [{"type": "SEMVER", "events": [{"introduced": "4.0.0"}, {"fixed": "4.3.0"}]}]}  # fmt: skip
    assert ask(tmp_path, record(affected=[semver]), version="4.2.9") == [("X-1", "CVE-1")]


def test_records_in_yaml_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "vulns" / "django").mkdir(parents=True)
    (tmp_path / "vulns" / "django" / "X-2.yaml").write_text(
        "id: X-2\nmodified: 2027-01-02T03:04:05Z\naffected:\n- package:\n    ecosystem: PyPI\n    name: django\n"
        "  ranges:\n  - type: ECOSYSTEM\n    events:\n    - introduced: '0'\n"
    )
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "broken.yaml").write_text("affected: [")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    (tmp_path / "workflow.yml").write_text("on: push\n")
    (tmp_path / "list.json").write_text("[]")
    assert ask(tmp_path) == [("X-2",)]


def test_a_report_says_how_new_it_is_and_what_it_knows(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps(record(modified="2020-01-01T00:00:00Z")))
    (tmp_path / "new.json").write_text(json.dumps(record("flask")))
    report = ask_folder(tmp_path, [Package(PYPI, "django", "6.0", "a.txt"), Package(PYPI, "celery", "5", "a.txt")])
    assert (report.as_of, report.ecosystems, report.known, report.findings) == (date(2027, 1, 2), (PYPI,), 1, ())


def test_unreadable_versions_are_reported_and_hide_no_other_advisory(tmp_path: Path) -> None:
    broken = record(id="X-3")
    broken["affected"][0]["ranges"][0]["events"][1]["fixed"] = "soon"
    (tmp_path / "0.json").write_text(json.dumps(broken))
    (tmp_path / "1.json").write_text(json.dumps(record()))
    report = ask_folder(tmp_path, [Package(PYPI, "django", "4.2", "a.txt")])
    assert report.unreadable == ("X-3 of django",)
    assert [finding.ids[0] for finding in report.findings] == ["X-1"]


def test_a_folder_without_records_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UnusableSource):
        ask_folder(tmp_path, [])
    with pytest.raises(UnusableSource):
        ask_folder(tmp_path / "missing", [])


def safety_db(folder: Path, data: Any) -> Path:
    (folder / "safety_db").mkdir()
    (folder / "safety_db" / "insecure_full.json").write_text(json.dumps(data))
    return folder


def test_safety_db(tmp_path: Path) -> None:
    data = {
        "$meta": {"timestamp": 1625119202},
        "Django": [
            {"id": "pyup.io-1", "cve": "CVE-1,CVE-2", "specs": ["<3", ">=4,<4.3"], "advisory": "Bad."},
            {"id": "pyup.io-2", "cve": None, "specs": ["<4"], "advisory": "Old."},
            {"id": "pyup.io-3", "cve": None, "specs": ["unknown"], "advisory": "Unclear."},
        ],
    }
    report = ask_safety_db(safety_db(tmp_path, data), [Package(PYPI, "django", "4.2", "a.txt")])
    assert (report.as_of, report.known, report.unreadable) == (date(2021, 7, 1), 1, ("pyup.io-3 of django",))
    assert [finding.ids for finding in report.findings] == [("pyup.io-1", "CVE-1", "CVE-2")]


@pytest.mark.parametrize("data", [[], {}, {"$meta": {}}])
def test_safety_db_of_another_form_is_no_source(tmp_path: Path, data: Any) -> None:
    with pytest.raises(UnusableSource):
        ask_safety_db(safety_db(tmp_path, data), [])


def test_safety_db_that_is_missing_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UnusableSource):
        ask_safety_db(tmp_path, [])


def test_all_packages_of_all_locks(tmp_path: Path) -> None:
    (tmp_path / "a.in").write_text("x==1\n")
    (tmp_path / "a.txt").write_text("x==1 ; python_version < '3.12'\nx==2 ; python_version >= '3.12'\nA_b.C==3\n")
    (tmp_path / "notes.txt").write_text("y==1\n")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "package-lock.json").write_text("{}")
    entries = {
        "": {},
        "node_modules/@a/b": {"version": "1.0.0"},
        "node_modules/@a/b/node_modules/c": {"version": "2.0.0"},
    }
    (tmp_path / "package-lock.json").write_text(json.dumps({"packages": entries}))
    found = {(package.ecosystem, package.name, package.version) for package in locked(tmp_path)}
    python = {(PYPI, "x", "1"), (PYPI, "x", "2"), (PYPI, "a-b-c", "3")}
    assert found == python | {(NPM, "@a/b", "1.0.0"), (NPM, "c", "2.0.0")}


def test_an_option_of_its_own_is_no_package() -> None:
    (only,) = requirements("--index-url https://mirror.example\n")
    assert only.pin() is None
