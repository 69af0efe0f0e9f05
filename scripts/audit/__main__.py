"""Command that compares every lock with the advisories that are at hand, and names what it cannot check.

Exit codes: 0 nothing was found, 1 there are findings that no exception covers, 2 there was nothing to compare with.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Final

from scripts.audit import exceptions
from scripts.audit.advisories import Finding, Report, UnusableSource, ask_folder, ask_safety_db
from scripts.audit.locks import NPM, PYPI, ROOT, Package, locked

HERE: Final = Path(__file__).parent
DATA: Final = ROOT / ".cache" / "audit"
EXCEPTIONS: Final = HERE / "exceptions.toml"
_SUMMARY_LENGTH: Final = 160
_NEVER_CHECKED: Final = (
    "Debian's packages, in templates and on hosts: rebuild templates and upgrade hosts to get its security updates",
    "programs within packages: Node.js and npm, the Claude Code CLI, Chromium's driver, and the PostgreSQL, Redis and "
    "OpenSSL that come in wheels",
    "vulnerabilities that are not published yet, and the project's own code",
)

Say = Callable[[str], None]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description="Look for known vulnerabilities.")
    parser.add_argument("--advisories", type=Path, action="append", default=[], metavar="FOLDER",
                        help="records in OSV's format, such as a clone of an advisory database")  # fmt: skip
    parser.add_argument("--without-safety-db", action="store_true", help="do not use the data of safety-db")
    options = parser.parse_args(arguments)
    packages = locked(ROOT)
    questions: list[Callable[[], Report]] = [partial(ask_folder, folder, packages) for folder in options.advisories]
    if not options.without_safety_db:
        questions.insert(0, lambda: ask_safety_db(fetched_safety_db(), packages))
    try:
        exempt = exceptions.read(EXCEPTIONS)
    except exceptions.BadExceptions as error:
        say(f"audit: {error}")
        return 2
    return audit(packages, questions, exempt, datetime.now(UTC).date(), say)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def fetched_safety_db() -> Path:
    """Return the folder with safety-db; install it there by its hash if it is missing.

    Raises:
        UnusableSource: safety-db is missing, and pip cannot install it.
    """
    if not (DATA / "safety_db").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input",
                   "--require-hashes", "--only-binary=:all:", "--no-deps", f"--target={DATA}",
                   f"--requirement={HERE / 'data.txt'}"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["pip printed nothing"])[-1]
            raise UnusableSource(f"safety-db is not installed, and pip cannot fetch it: {last}")
    return DATA


def audit(
    packages: Sequence[Package],
    questions: Iterable[Callable[[], Report]],
    exempt: Sequence[exceptions.Exempt],
    today: date,
    say: Say,
) -> int:
    """Query every source, print its findings and what stays unchecked, and return the exit code."""
    counts = {eco: len({one for one in packages if one.ecosystem == eco}) for eco in (PYPI, NPM)}
    locks = len({package.lock for package in packages})
    say(f"audit: {counts[PYPI]} entries of {PYPI} and {counts[NPM]} of {NPM} in {locks} locks")
    reports, gaps = [], []
    for question in questions:
        try:
            reports.append(question())
        except UnusableSource as error:
            gaps.append(str(error))
    for report in reports:
        say(f"source: {report.source}, as of {report.as_of} ({', '.join(report.ecosystems)}): "
            f"{report.known} of our packages have advisories there, {len(report.findings)} findings")  # fmt: skip
    for gap in [*gaps, *_gaps(packages, reports, today), *_NEVER_CHECKED]:
        say(f"cannot check: {gap}")
    if not reports:
        say("audit: no source of advisories is usable, so nothing was checked")
        return 2
    return (
        1 if _report_findings([finding for report in reports for finding in report.findings], exempt, today, say) else 0
    )


def _gaps(packages: Sequence[Package], reports: Sequence[Report], today: date) -> list[str]:
    """Return the gaps of the sources: ecosystems without a source, and the time since the newest advisory."""
    gaps = []
    for ecosystem in sorted({package.ecosystem for package in packages}):
        days = [report.as_of for report in reports if ecosystem in report.ecosystems]
        if not days:
            gaps.append(f"packages of {ecosystem}: no source has advisories of them")
        elif (age := (today - max(days)).days) > 0:
            gaps.append(f"advisories of {ecosystem} from after {max(days)}, which is {age} days ago")
    gaps += [f"{one}, whose versions {report.source} writes in a form that cannot be read"
             for report in reports for one in report.unreadable]  # fmt: skip
    return gaps


def _report_findings(findings: Sequence[Finding], exempt: Sequence[exceptions.Exempt], today: date, say: Say) -> int:
    """Print each finding and the state of each exception; return the number of findings without a valid exception."""
    open_findings = 0
    for finding in findings:
        covering = [one for one in exempt if one.covers(finding)]
        valid = next((one for one in covering if one.is_valid(today)), None)
        where = f"{finding.package.name} {finding.package.version} in {finding.package.lock}"
        if valid:
            say(f"accepted until {valid.expires}: {where}: {valid.id}: {valid.reason}")
            continue
        open_findings += 1
        late = f" (its exception ended on {covering[0].expires})" if covering else ""
        summary = " ".join(finding.summary.split())[:_SUMMARY_LENGTH]
        say(f"FOUND{late}: {where}: {', '.join(finding.ids)}: {summary}")
    for one in exempt:
        if not any(one.covers(finding) for finding in findings):
            say(f"unused exception: {one.id} of {one.package}; remove it when every source is asked")
    say(f"audit: {open_findings} findings" if open_findings else "audit: no findings in what could be checked")
    return open_findings


if __name__ == "__main__":
    sys.exit(main())
