"""Decision about a shard's isolation, which its worker makes once."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from myctobot.contract.shards import IsolationKind
from tests.integration.workers.sandbox.test_sandbox import UID, hide_bwrap, play
from workers.errors import JobError
from workers.sandbox import isolation
from workers.sandbox.isolation import Isolation, SandboxRefused, check, decide
from workers.sandbox.sandbox import ResourceLimits, SandboxConfig

CONFIG = SandboxConfig(ResourceLimits(memory_mb=100), UID)


def break_bwrap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bubblewrap fail as it does when no process can be created."""
    (folder / "bwrap").write_text("#!/bin/sh\necho 'bwrap: Creating new namespace failed' >&2\nexit 1\n")
    (folder / "bwrap").chmod(0o755)
    monkeypatch.setattr("workers.sandbox.process.TOOLS", f"{folder}:/usr/bin:/bin")


def test_a_working_sandbox_is_used_even_if_none_is_needed(tmp_path: Path) -> None:
    decided = decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=True, earlier=None)
    assert (decided.kind, decided.problem) == (IsolationKind.SANDBOX, "")


def test_without_a_sandbox_only_an_explicit_permission_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_bwrap(tmp_path, monkeypatch)
    with pytest.raises(SandboxRefused, match="Creating new namespace failed"):
        decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=False, earlier=None)
    decided = decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=True, earlier=None)
    assert decided.kind is IsolationKind.NONE
    assert "Creating new namespace failed" in decided.problem


def test_a_shard_that_cannot_make_the_ways_out_of_a_jobs_network_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(pid: int, addresses: list[tuple[str, int]]) -> list[socket.socket]:
        if addresses:
            raise OSError("the job's network cannot be entered: refused")
        return []

    monkeypatch.setattr("workers.sandbox.process.listen_inside", refuse)
    with pytest.raises(SandboxRefused, match="cannot be entered: refused"):
        decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=False, earlier=None)
    shared = replace(CONFIG, own_network=False)
    assert decide(shared, tmp_path, tmp_path, allow_unsandboxed=False, earlier=None).problem == ""


def test_a_shard_that_had_a_sandbox_does_not_start_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_bwrap(monkeypatch)
    earlier = Isolation(IsolationKind.SANDBOX)
    with pytest.raises(SandboxRefused, match="had a sandbox at its last start"):
        decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=True, earlier=earlier)


def test_a_shard_that_had_control_groups_does_not_start_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sandbox.limits._own_group_directories", lambda: {})
    earlier = Isolation(IsolationKind.SANDBOX, frozenset({"memory", "freeze"}))
    with pytest.raises(SandboxRefused, match="had control groups for freeze, memory"):
        decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=False, earlier=earlier)


@pytest.mark.needs("root")
@pytest.mark.needs("loop devices")
def test_jobs_have_disk_images_where_they_can_be_mounted(tmp_path: Path) -> None:
    decided = decide(CONFIG, tmp_path / "jobs", tmp_path / "run", allow_unsandboxed=False, earlier=None)
    assert (decided.disk_images, decided.disk_problem) == (True, "")
    assert [*(tmp_path / "jobs").iterdir(), *(tmp_path / "run").iterdir()] == []


def test_a_shard_that_had_disk_images_does_not_start_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sandbox.disk_image.LOOP_CONTROL", tmp_path / "missing")
    decided = decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=False, earlier=None)
    assert not decided.disk_images
    with pytest.raises(SandboxRefused, match="had disk images at its last start"):
        decide(CONFIG, tmp_path, tmp_path, allow_unsandboxed=False, earlier=replace(decided, disk_images=True))


def test_a_record_of_an_earlier_release_has_no_disk_images(tmp_path: Path) -> None:
    (tmp_path / isolation.DECISION).write_text('{"kind": "sandbox", "groups": [], "problem": ""}')
    assert isolation.load_for_job(tmp_path) == Isolation(IsolationKind.SANDBOX)


def test_the_decision_is_recorded_for_jobs(tmp_path: Path) -> None:
    assert isolation.load(tmp_path) is None
    with pytest.raises(JobError, match="restart its worker"):
        isolation.load_for_job(tmp_path)
    decided = Isolation(IsolationKind.SANDBOX, frozenset({"memory"}), disk_images=True)
    isolation.store(tmp_path, decided)
    assert isolation.load_for_job(tmp_path) == decided
    applied = decided.apply(CONFIG)
    assert (applied.isolated, applied.groups) == (True, frozenset({"memory"}))


def test_a_damaged_record_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / isolation.DECISION).write_text("{")
    with pytest.raises(SandboxRefused, match="is damaged"):
        isolation.load(tmp_path)
    with pytest.raises(JobError, match="isolation is unknown") as caught:
        isolation.load_for_job(tmp_path)
    assert caught.value.code == "sandbox_failed"


def test_a_problem_stays_until_it_is_cleared(tmp_path: Path) -> None:
    assert isolation.read_problem(tmp_path) == ""
    isolation.report_problem(tmp_path, "x" * 1000)
    assert isolation.read_problem(tmp_path) == "x" * isolation.MAX_PROBLEM
    isolation.store(tmp_path, Isolation(IsolationKind.SANDBOX))
    assert isolation.read_problem(tmp_path) == ""


def test_a_bubblewrap_that_fails_never_leads_to_less_isolation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_bwrap(tmp_path, monkeypatch)
    ran = tmp_path / "agent/repo/ran"
    with pytest.raises(JobError, match="Creating new namespace failed") as caught:
        play(tmp_path, lambda sandbox: sandbox.run(["touch", "ran"]))
    assert (caught.value.code, caught.value.retryable, ran.exists()) == ("sandbox_failed", True, False)
    assert "Creating new namespace failed" in (check(SandboxConfig(ResourceLimits(), UID)) or "")


def test_a_command_cannot_pretend_that_the_sandbox_failed(tmp_path: Path) -> None:
    done = play(tmp_path, lambda sandbox: sandbox.run(["sh", "-c", "echo 'bwrap: failed' >&2; exit 1"]))
    assert (done.returncode, done.stderr) == (1, b"bwrap: failed\n")


def test_a_missing_control_group_fails_the_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sandbox.limits._own_group_directories", lambda: {})
    with pytest.raises(JobError, match="control groups for memory could not be set up") as caught:
        play(tmp_path, lambda sandbox: sandbox.run(["true"]), groups=frozenset({"memory"}))
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)
