"""Random faults in all parts while jobs run, judged by the history of every job; see docs/faults.md."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.factories.random_faults import FAULTS, seed_of_day
from tests.faults.random_run import Run, describe_problems, run_random_faults

pytestmark = [pytest.mark.faults, pytest.mark.needs("root")]

SHORT_S, LONG_S = 60.0, 900.0


def check_run(run: Run) -> None:
    problems = describe_problems(run)
    assert not problems, problems
    ended = [job for job in run.history.jobs if any(attempt.claimed_at for attempt in job.attempts)]
    effective = [fault for fault in run.history.faults if fault.took_effect]
    assert ended, "no job ran"
    assert len(effective) >= 0.8 * len(run.plan), f"only {len(effective)} of {len(run.plan)} faults took effect"


@pytest.mark.timeout(1500)
def test_a_minute_of_random_faults_breaks_no_rule(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    today = seed_of_day(datetime.now(UTC).date())
    given = request.config.getoption("--faults-seed")
    seed = today if given is None else given
    # pytest shows this with every failure, also with one before the judgement.
    sys.stdout.write(f"repeat this run with --faults-seed {seed} (that of today is {today})\n")
    check_run(run_random_faults(tmp_path, seed, SHORT_S))


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_quarter_of_an_hour_of_random_faults_breaks_no_rule(tmp_path: Path, seed: int) -> None:
    run = run_random_faults(tmp_path, seed, LONG_S)
    check_run(run)
    kinds = {(fault.part, fault.fault) for fault in run.history.faults if fault.took_effect}
    assert kinds >= {(part, fault) for part, faults in FAULTS.items() for fault in faults}
