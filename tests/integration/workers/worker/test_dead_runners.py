"""Real worker whose runners are killed: it reports each one at once, and does not wait for it at its own end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from myctobot.stack.redis import EmbeddedRedis
from tests.fixtures.broker import (
    QUEUES,
    ControlStandIn,
    LimitedWorker,
    Operator,
    control_stand_in,
    eventually,
    job_named,
    limited_worker,
)
from workers.runner_registry import Registry, RunnerEntry


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    made = EmbeddedRedis(tmp_path_factory.mktemp("broker"), port=0)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def operator(service: EmbeddedRedis) -> Iterator[Operator]:
    made = Operator(service.url)
    made.redis.flushall()
    yield made
    made.close()


@pytest.fixture
def control() -> Iterator[ControlStandIn]:
    """Provide a control plane that cannot answer claims, so that each runner keeps trying."""
    with control_stand_in(QUEUES) as made:
        made.claim_status = 503
        yield made


@pytest.fixture
def worker(operator: Operator, control: ControlStandIn, tmp_path: Path) -> Iterator[LimitedWorker]:
    with limited_worker(tmp_path, control, operator.url) as made:
        eventually(lambda: "ready." in made.said() or made.process.poll() is not None, "the worker does not start")
        yield made


def start_runner(worker: LimitedWorker, operator: Operator, text: str) -> RunnerEntry:
    """Send an order, and return its runner."""
    registry = Registry(worker.config.parent / "run")
    operator.send("cap.git", job_named(text))
    found: list[RunnerEntry] = eventually(
        lambda: [entry for entry in registry.live() if entry.job_id == job_named(text)], "no runner starts"
    )
    return found[0]


def test_a_killed_runner_is_reported_at_once(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    killed, other = (start_runner(worker, operator, text) for text in ("killed", "other"))
    workspace = worker.config.parent / "jobs" / killed.name
    workspace.mkdir(parents=True)
    os.kill(killed.pid, signal.SIGKILL)
    eventually(lambda: any("ended" in report for report in control.reports), "no heartbeat reports it")
    reports = [report for report in control.reports if "ended" in report]
    assert [report["ended"] for report in reports] == [[killed.name]]
    # By then nothing of it is left, and the other one goes on.
    assert not workspace.exists()
    assert reports[0]["running"] == [other.name]
    before = control.heartbeats
    eventually(lambda: control.heartbeats > before + 1, "no further heartbeat")
    assert not any("ended" in report for report in control.reports[before:])


def test_a_report_is_repeated_until_it_is_answered(
    worker: LimitedWorker, operator: Operator, control: ControlStandIn
) -> None:
    runner = start_runner(worker, operator, "killed")
    control.heartbeat_status = 503
    os.kill(runner.pid, signal.SIGKILL)
    eventually(lambda: sum("ended" in report for report in control.reports) > 1, "it is not repeated")
    control.heartbeat_status = 200
    eventually(lambda: "ended" not in control.reports[-1], "it does not end")


def test_at_its_own_end_it_does_not_wait_for_runners_that_are_gone(worker: LimitedWorker, operator: Operator) -> None:
    runners = [start_runner(worker, operator, text) for text in ("one", "two")]
    worker.process.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert worker.process.poll() is None, "it does not wait for its runners"
    for runner in runners:
        os.kill(runner.pid, signal.SIGKILL)
    assert worker.process.wait(20) == 0


def test_at_its_own_end_it_does_not_wait_for_a_runner_that_is_stopped(
    worker: LimitedWorker, operator: Operator
) -> None:
    runner = start_runner(worker, operator, "stopped")
    os.kill(runner.pid, signal.SIGSTOP)
    try:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(20) == 0
        # The next worker finds it.
        assert runner.is_alive()
        assert Registry(worker.config.parent / "run").live() == [runner]
    finally:
        os.kill(runner.pid, signal.SIGKILL)
