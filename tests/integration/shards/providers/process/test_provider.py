"""Shards that are processes: their environment, their worker and their removal."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from shards.providers.base import ContainerSpec, ContainerState
from shards.providers.process.launcher import set_paths
from shards.providers.process.provider import ProcessProvider
from tests.fixtures.forked import fork_servers
from tests.fixtures.provider_contract import INVITATION, Notes
from tests.integration.workers.test_main import config_file
from workers.worker.runner_process import ForkServerClient

SPEC = ContainerSpec("alpha", environment=INVITATION)


@pytest.fixture
def maker(tmp_path: Path) -> Iterator[ProcessProvider]:
    maker = ProcessProvider(tmp_path)
    yield maker
    for one in maker.list():
        maker.destroy(one.ref, Notes())


def started(maker: ProcessProvider, home: Path) -> tuple[str, psutil.Process]:
    ref = maker.create(SPEC, Notes())
    maker.start(ref, Notes())
    return ref, psutil.Process(record(home, ref)["pid"])


def record(home: Path, ref: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((home / "run" / f"shard-{ref}.json").read_text())
    return values


def test_it_sees_nothing_of_the_caller(maker: ProcessProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key of the caller's")
    _, process = started(maker, tmp_path)
    own = {"PATH", "LANG", "HOME", "TMPDIR", "PYTHONUNBUFFERED"}
    assert set(process.environ()) == own | set(INVITATION)


def test_its_token_can_be_read_by_its_owner_alone(maker: ProcessProvider, tmp_path: Path) -> None:
    ref = maker.create(SPEC, Notes())
    holding = [path for path in tmp_path.rglob("*.json") if INVITATION["MYCTOBOT_ENROL_TOKEN"] in path.read_text()]
    assert [path.stat().st_mode & 0o777 for path in holding] == [0o600]
    assert holding[0].parent.name == ref
    assert INVITATION["MYCTOBOT_ENROL_TOKEN"] not in repr(SPEC)


def test_it_is_nobodys_child_and_leads_a_session(maker: ProcessProvider, tmp_path: Path) -> None:
    _, process = started(maker, tmp_path)
    assert process.pid not in [child.pid for child in psutil.Process().children(recursive=True)]
    assert os.getsid(process.pid) == process.pid


def test_a_number_that_another_process_has_by_now_is_left_alone(maker: ProcessProvider, tmp_path: Path) -> None:
    ref, process = started(maker, tmp_path)
    values = record(tmp_path, ref)
    (tmp_path / "run" / f"shard-{ref}.json").write_text(json.dumps({**values, "start_time": 1}))
    assert maker.status(ref).state is ContainerState.STOPPED
    maker.stop(ref, Notes(), timeout_s=0)
    assert process.is_running()
    (tmp_path / "run" / f"shard-{ref}.json").write_text(json.dumps(values))


def test_a_stop_ends_the_runners_too_which_outlive_a_worker(maker: ProcessProvider, tmp_path: Path) -> None:
    ref = maker.create(SPEC, Notes())
    with psutil.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as runner:
        started_at = int(Path(f"/proc/{runner.pid}/stat").read_text().rpartition(")")[2].split()[19])
        run = tmp_path / "shards" / ref / "run"
        run.mkdir()
        (run / "one.json").write_text(json.dumps({"pid": runner.pid, "start_time": started_at}))
        family = runner.children(recursive=True)
        maker.stop(ref, Notes(), timeout_s=0)
        assert runner.wait(5) == -9
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)


def test_a_stop_ends_the_fork_server_and_a_runner_that_is_not_registered_yet(
    maker: ProcessProvider, tmp_path: Path
) -> None:
    ref, other = (maker.create(ContainerSpec(name, environment=INVITATION), Notes()) for name in ("alpha", "beta"))
    configs = [config_file(tmp_path / "shards" / one, executor="scripted") for one in (ref, other)]
    with ExitStack() as stack:
        servers = [stack.enter_context(closing(ForkServerClient("scripted", config))) for config in configs]
        ours, others = (stack.enter_context(closing(server.spawn())) for server in servers)
        maker.stop(ref, Notes(), timeout_s=0)
        assert ours.wait(10)
        assert fork_servers(configs[0]) == []
        assert not others.wait(0)


def test_a_worker_that_ended_says_why(maker: ProcessProvider, tmp_path: Path) -> None:
    spec = ContainerSpec("alpha", environment={**INVITATION, "MYCTOBOT_CONTROL_URL": "nowhere"})
    ref = maker.create(spec, Notes())
    maker.start(ref, Notes())
    deadline = time.monotonic() + 20
    while (status := maker.status(ref)).state is ContainerState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status.state is ContainerState.STOPPED
    assert "MYCTOBOT_CONTROL_URL" in status.detail


def test_the_worker_uses_its_own_folder(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"shard_id": "alpha", "cleanup": {"job_ttl_minutes": 5}}))
    set_paths(config, tmp_path)
    assert json.loads(config.read_text()) == {
        "shard_id": "alpha",
        "run_path": str(tmp_path / "run"),
        "cleanup": {"job_ttl_minutes": 5, "workspace_path": str(tmp_path / "jobs")},
    }
    assert config.stat().st_mode & 0o777 == 0o600
