"""Report of a failing sandbox, and the test that ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.shards import IsolationKind
from tests.integration.workers.test_main import config_file
from workers.config import load_config
from workers.sandbox import disk_image, isolation
from workers.sandbox.isolation import Isolation
from workers.worker import sandbox_watch
from workers.worker.sandbox_watch import SandboxWatch


@pytest.fixture
def run_path(tmp_path: Path) -> Path:
    isolation.store(tmp_path / "run", Isolation(IsolationKind.SANDBOX))
    return tmp_path / "run"


def watch_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str) -> SandboxWatch:
    monkeypatch.setattr(isolation, "probe", lambda config: (frozenset(), problem))
    return SandboxWatch(load_config(config_file(tmp_path)))


WELL = {
    "isolation": "sandbox",
    "limits": {"memory": "watchdog", "processes": "user", "disk": "watchdog"},
    "network": "job",
}


def report(watch: SandboxWatch) -> dict[str, Any]:
    found: Any = watch.add_to({})  # type: ignore[typeddict-item]  # only its own fields matter here
    if watch._retest is not None:
        watch._retest.join()
    return dict(found)


@pytest.mark.parametrize(
    ("chosen", "kind", "network"),
    [
        ("job", IsolationKind.SANDBOX, "job"),
        ("shard", IsolationKind.SANDBOX, "shard"),
        ("job", IsolationKind.NONE, "shard"),
    ],
)
def test_the_network_of_the_agents_is_reported(tmp_path: Path, chosen: str, kind: IsolationKind, network: str) -> None:
    isolation.store(tmp_path / "run", Isolation(kind))
    watch = SandboxWatch(load_config(config_file(tmp_path, sandbox={"network": chosen})))
    assert report(watch)["network"] == network


def test_a_problem_is_reported_before_it_is_tested(
    tmp_path: Path, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watch_with(tmp_path, monkeypatch, "")
    assert report(watch) == WELL
    isolation.report_problem(run_path, "fork refused")
    assert report(watch)["sandbox_problem"] == report(watch)["sandbox_problem"] == "fork refused"


@pytest.mark.parametrize(("problem", "after"), [("", {}), ("still", {"sandbox_problem": "fork refused"})])
def test_a_successful_test_ends_the_problem(
    tmp_path: Path, run_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str, after: dict[str, str]
) -> None:
    watch = watch_with(tmp_path, monkeypatch, problem)
    isolation.report_problem(run_path, "fork refused")
    monkeypatch.setattr(sandbox_watch, "RETEST_EVERY_S", -1.0)
    assert report(watch)["sandbox_problem"] == "fork refused"
    assert report(watch) == WELL | after


def test_an_unreadable_state_sends_no_heartbeat(
    tmp_path: Path, run_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_path / isolation.DECISION).write_text("{")
    with pytest.raises(OSError, match="is damaged"):
        report(watch_with(tmp_path, monkeypatch, ""))


@pytest.mark.parametrize(("found", "after"), [("", {}), ("no loop device", {"sandbox_problem": "no image"})])
def test_a_shard_with_disk_images_also_tests_them(
    tmp_path: Path, run_path: Path, monkeypatch: pytest.MonkeyPatch, found: str, after: dict[str, str]
) -> None:
    isolation.store(run_path, Isolation(IsolationKind.SANDBOX, disk_images=True))
    monkeypatch.setattr(disk_image, "probe", lambda workspaces, run_path, limits: found)
    watch = watch_with(tmp_path, monkeypatch, "")
    isolation.report_problem(run_path, "no image")
    monkeypatch.setattr(sandbox_watch, "RETEST_EVERY_S", -1.0)
    report(watch)
    sent = report(watch)
    assert sent.get("sandbox_problem") == after.get("sandbox_problem")
    assert sent["limits"]["disk"] == "image"
