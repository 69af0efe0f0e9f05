"""Attacks on the isolation of jobs: make the sandbox fail, so that a later job runs without one."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from myctobot.contract.shards import IsolationKind
from myctobot.stack.plan import CHECKOUT
from shards.health import monitor
from shards.models import ShardState
from tests.factories.control_plane import make_operator, make_shard
from tests.factories.executions import make_execution
from tests.integration.shards.health.test_monitor import EVER, steady
from tests.integration.shards.shard_api.test_heartbeat import beat
from tests.integration.workers.sandbox.test_isolation import break_bwrap
from tests.integration.workers.test_main import WITHOUT_BWRAP, config_file, refusal
from tests.stacks import bare_environment, up_command
from workers.config import ShardConfig, load_config
from workers.errors import JobError
from workers.sandbox import isolation
from workers.sandbox.isolation import Isolation
from workers.worker.sandbox_watch import SandboxWatch
from workers.worker.spawner import Spawner

SENTENCE = "Jobs run without a sandbox on this installation"
ALLOWED = {"sandbox": {"allow_unsandboxed": True}}


async def run_as_agent(config: ShardConfig, *command: str) -> bytes:
    """Run a command as the agent of the shard's next job, and return its output."""
    answer: Any = {"job_id": "job_0123456789abcdefghjk", "attempt": 1, "capabilities": ["git"]}
    job = make_execution(config, answer, slot=0)
    sandbox = job._prepare_sandbox()
    try:
        return (await sandbox.run(command)).stdout
    finally:
        await sandbox.close()
        await job.close()


def test_a_failing_sandbox_fails_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(config_file(tmp_path, **ALLOWED))
    isolation.store(config.run_path, Isolation(IsolationKind.SANDBOX))
    assert asyncio.run(run_as_agent(config, "cat", "/proc/1/comm")) == b"bwrap\n"
    break_bwrap(tmp_path, monkeypatch)
    with pytest.raises(JobError) as caught:
        asyncio.run(run_as_agent(config, "touch", str(tmp_path / "ran")))
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)
    assert not (tmp_path / "ran").exists()


def test_a_restart_does_not_remove_the_sandbox(tmp_path: Path) -> None:
    config = config_file(tmp_path, **ALLOWED)
    isolation.store(tmp_path / "run", Isolation(IsolationKind.SANDBOX))
    assert "had a sandbox at its last start" in refusal(config, WITHOUT_BWRAP)


def test_a_shard_whose_sandbox_fails_claims_no_job(tmp_path: Path) -> None:
    path = config_file(tmp_path, **ALLOWED)
    config = load_config(path)
    isolation.store(config.run_path, Isolation(IsolationKind.SANDBOX))
    isolation.report_problem(config.run_path, "bwrap: fork: Resource temporarily unavailable")
    spawner = Spawner(config, path)
    assert spawner.run("job_0123456789abcdefghjk", 1) == 1
    assert spawner.running() == []
    report = SandboxWatch(config).add_to({})  # type: ignore[typeddict-item]  # only its own fields matter here
    assert report["isolation"] == "sandbox"
    assert report["sandbox_problem"] == "bwrap: fork: Resource temporarily unavailable"


@pytest.mark.django_db
def test_the_control_plane_sends_it_no_job_until_the_sandbox_works() -> None:
    shard, key = make_shard("failing")
    for _ in range(2):
        assert beat(key, isolation="sandbox", sandbox_problem="bwrap: fork: refused").json()["orders"] == ["drain"]
    shard.refresh_from_db()
    assert shard.state == ShardState.SUSPECT
    assert shard.state_reason == "Its sandbox fails, and no job runs without one: bwrap: fork: refused"
    steady(shard, 600)
    assert monitor.watch(EVER) == 0
    beat(key, isolation="sandbox")
    steady(shard, 600)
    assert monitor.watch(EVER) == 1
    shard.refresh_from_db()
    assert shard.state == ShardState.READY


@pytest.mark.django_db
@pytest.mark.parametrize("isolation_kind", ["sandbox", "none"])
@pytest.mark.parametrize(
    "page", ["/login/", "/jobs/", "/ops/", "/ops/queues/", "/admin/login/", "/admin/", "/api/docs/"]
)
def test_every_page_says_that_jobs_run_without_a_sandbox(page: str, isolation_kind: str) -> None:
    _, key = make_shard("bare")
    beat(key, isolation=isolation_kind)
    browser = Client()
    if not page.endswith("login/"):
        browser.force_login(make_operator())
    answer = browser.get(page)
    assert (SENTENCE in answer.content.decode()) == (isolation_kind == "none")


def test_the_stack_does_not_start_without_a_sandbox(tmp_path: Path) -> None:
    command = [*WITHOUT_BWRAP, *up_command("--web-port", "0", "--gateway-port", "0")]
    home = tmp_path / "home"
    done = subprocess.run(
        command, cwd=CHECKOUT, env=bare_environment(home), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout
    assert "This machine cannot isolate agents, so the stack does not start" in done.stdout
    assert "--allow-unsandboxed" in done.stdout
