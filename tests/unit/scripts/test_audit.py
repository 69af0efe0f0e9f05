"""The audit: its findings, its exceptions, its exit codes, and what it says that it cannot check."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pytest

from scripts.audit import __main__ as program
from scripts.audit import exceptions
from scripts.audit.advisories import Finding, Report, UnusableSource
from scripts.audit.exceptions import BadExceptions, Exempt
from scripts.audit.locks import NPM, PYPI, Package

TODAY = date(2027, 1, 31)
DJANGO = Package(PYPI, "django", "5.2.19", "requirements.txt")
SERVER = Package(NPM, "@a/b", "1.2.3", "package-lock.json")
FOUND = Finding(DJANGO, ("PYSEC-2027-1", "CVE-2027-0001"), "It is\n  bad. " + "x" * 500)


def report(*findings: Finding, as_of: date = TODAY, ecosystems: tuple[str, ...] = (PYPI, NPM)) -> Report:
    return Report("a database", as_of, ecosystems, 1, findings)


def exempt(last_day: date = TODAY, *, name: str = "CVE-2027-0001", package: str = "django") -> Exempt:
    return Exempt(name, package, "We do not call it.", last_day)


def audit(*questions: Callable[[], Report], exempt: tuple[Exempt, ...] = ()) -> tuple[int, str]:
    said: list[str] = []
    code = program.audit([DJANGO, SERVER], questions, exempt, TODAY, said.append)
    return code, "\n".join(said)


def missing() -> Report:
    raise UnusableSource("the database is not there")


def test_no_finding_is_no_promise() -> None:
    code, said = audit(report)
    assert code == 0
    assert "source: a database, as of 2027-01-31 (PyPI, npm)" in said
    assert "cannot check: Debian's packages" in said
    assert "cannot check: programs within packages" in said
    assert "no findings in what could be checked" in said


def test_a_finding_is_named_with_its_lock_and_fails() -> None:
    code, said = audit(lambda: report(FOUND))
    assert code == 1
    assert "FOUND: django 5.2.19 in requirements.txt: PYSEC-2027-1, CVE-2027-0001: It is bad. x" in said
    assert max(map(len, said.splitlines())) < 300


@pytest.mark.parametrize("name", ["PYSEC-2027-1", "CVE-2027-0001"])
def test_an_exception_covers_a_finding_by_any_of_its_names(name: str) -> None:
    code, said = audit(lambda: report(FOUND), exempt=(exempt(name=name),))
    assert code == 0
    assert f"accepted until 2027-01-31: django 5.2.19 in requirements.txt: {name}: We do not call it." in said


@pytest.mark.parametrize(
    "other", [exempt(TODAY - timedelta(days=1)), exempt(name="CVE-2027-0002"), exempt(package="flask")]
)
def test_an_exception_that_ended_or_is_for_another_finding_covers_nothing(other: Exempt) -> None:
    code, said = audit(lambda: report(FOUND), exempt=(other,))
    assert code == 1
    assert ("its exception ended on 2027-01-30" in said) == (other.expires < TODAY)


def test_a_later_exception_replaces_one_that_ended() -> None:
    assert audit(lambda: report(FOUND), exempt=(exempt(TODAY - timedelta(days=1)), exempt()))[0] == 0


def test_an_exception_without_a_finding_is_named() -> None:
    code, said = audit(report, exempt=(exempt(),))
    assert code == 0
    assert "unused exception: CVE-2027-0001 of django" in said


def test_the_age_of_the_newest_data_is_said() -> None:
    said = audit(lambda: report(as_of=date(2021, 7, 1)), lambda: report(as_of=date(2027, 1, 1), ecosystems=(PYPI,)))[1]
    assert "cannot check: advisories of PyPI from after 2027-01-01, which is 30 days ago" in said
    assert "cannot check: advisories of npm from after 2021-07-01, which is 2040 days ago" in said


def test_an_ecosystem_without_a_source_is_named() -> None:
    code, said = audit(lambda: report(ecosystems=(PYPI,)))
    assert code == 0
    assert "cannot check: packages of npm: no source has advisories of them" in said


def test_a_missing_source_is_a_gap_and_the_others_count() -> None:
    code, said = audit(missing, lambda: report(FOUND))
    assert code == 1
    assert "cannot check: the database is not there" in said


def test_nothing_to_compare_with_is_no_success() -> None:
    code, said = audit(missing)
    assert code == 2
    assert "nothing was checked" in said


def test_versions_that_cannot_be_read_are_said() -> None:
    unreadable = Report("a database", TODAY, (PYPI, NPM), 1, (), ("PYSEC-2027-2 of django",))
    assert "cannot check: PYSEC-2027-2 of django" in audit(lambda: unreadable)[1]


ENTRY = '[[exception]]\nid = "CVE-1"\npackage = "django"\nreason = "Because."\nexpires = 2027-01-31\n'


def test_the_file_of_exceptions(tmp_path: Path) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text(ENTRY)
    assert exceptions.read(path) == [Exempt("CVE-1", "django", "Because.", TODAY)]


@pytest.mark.parametrize(
    "text",
    [
        "[[exception",
        ENTRY.replace('reason = "Because."\n', ""),
        ENTRY.replace('"Because."', '" "'),
        ENTRY.replace("2027-01-31", '"2027-01-31"'),
        ENTRY.replace("2027-01-31", "2027-01-31T00:00:00Z"),
        ENTRY.replace('"django"', "1"),
        ENTRY + 'note = "more"\n',
    ],
)
def test_an_exception_without_reason_or_last_day_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text(text)
    with pytest.raises(BadExceptions, match=r"exceptions\.toml"):
        exceptions.read(path)


def test_a_missing_file_of_exceptions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadExceptions):
        exceptions.read(tmp_path / "none.toml")


def test_the_committed_exceptions_can_be_read() -> None:
    assert all(one.reason for one in exceptions.read(program.EXCEPTIONS))


def test_the_command_asks_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"id": "X-1", "modified": "2027-01-01T00:00:00Z"}
    affected = {"package": {"ecosystem": "PyPI", "name": "Django"}, "ranges": [
        {"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(record | {"affected": [affected]}))
    assert program.main(["--without-safety-db", "--advisories", str(tmp_path)]) == 1
    assert "in requirements.txt: X-1" in capsys.readouterr().out


def test_the_command_without_any_source_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--without-safety-db", "--advisories", str(tmp_path)]) == 2
    assert "has no advisories" in capsys.readouterr().out


def test_a_fetch_that_fails_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "DATA", tmp_path / "data")
    monkeypatch.setattr(program, "HERE", tmp_path)
    with pytest.raises(UnusableSource, match="pip cannot fetch it"):
        program.fetched_safety_db()


def test_data_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "safety_db").mkdir()
    monkeypatch.setattr(program, "DATA", tmp_path)
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert program.fetched_safety_db() == tmp_path
