from __future__ import annotations

import logging
import os
import pwd
from pathlib import Path

import pytest

from myctobot.stack.plan import CHECKOUT
from workers.sandbox import own_group
from workers.sandbox.limits import LEAF


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the worker's group, in a made-up file system with systemd."""
    made = tmp_path / "run-1.scope"
    made.mkdir()
    monkeypatch.setattr(own_group, "SYSTEMD", tmp_path)
    monkeypatch.setattr(own_group, "_unprepared_group", lambda: made)
    monkeypatch.setattr(own_group, "start_in_scope", lambda _: "no scope")
    monkeypatch.delenv(own_group.STARTED_IN_SCOPE, raising=False)
    return made


def members(group: Path, *pids: int) -> None:
    (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


def test_a_scope_that_this_program_started_in_is_used(
    group: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    members(group, os.getpid())
    monkeypatch.setenv(own_group.STARTED_IN_SCOPE, str(os.getpid()))
    own_group.prepare()
    assert (group / "shard-worker/cgroup.procs").read_text() == str(os.getpid())
    assert (group / "cgroup.subtree_control").read_text() == "+memory"
    assert caplog.messages == [f"agents have control groups in {group}"]


@pytest.mark.parametrize("scope_of", ["", "1"])
def test_a_scope_without_delegation_is_not_changed(
    group: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, scope_of: str
) -> None:
    members(group, os.getpid())
    monkeypatch.setenv(own_group.STARTED_IN_SCOPE, scope_of)
    own_group.prepare()
    assert caplog.messages == ["there is no control group for the agents' memory: no scope"]
    assert not (group / "shard-worker").exists()


def test_a_program_starts_in_a_scope_only_once(
    group: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    members(group, os.getpid(), os.getppid())
    monkeypatch.setenv(own_group.STARTED_IN_SCOPE, str(os.getpid()))
    own_group.prepare()
    assert caplog.messages == [f"there is no control group for the agents' memory: the scope {group} cannot be used"]


@pytest.mark.parametrize("name", ["claude-shard.service", "claude-shard.service/part"])
def test_a_service_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / name).mkdir(parents=True)
    members(tmp_path / name, os.getpid(), os.getppid())
    monkeypatch.setattr(own_group, "_unprepared_group", lambda: tmp_path / name)
    own_group.prepare()
    assert "claude-shard.service needs Delegate=yes and DelegateSubgroup=shard-worker" in caplog.text


@pytest.mark.parametrize(
    ("group", "delegated"),
    [
        ("/", False),
        ("/user.slice/session-2.scope", False),
        ("/system.slice/other.service/part", True),
        ("/user.slice/user@1000.service/app.slice/run-1.scope", False),
    ],
)
def test_a_group_that_systemd_manages_is_not_delegated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, delegated: bool
) -> None:
    monkeypatch.setattr(own_group, "SYSTEMD", tmp_path)
    assert own_group.is_delegated(Path("/sys/fs/cgroup/no-such-mount" + group)) is delegated


def test_every_group_may_be_used_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_group, "SYSTEMD", tmp_path / "missing")
    assert own_group.is_delegated(tmp_path / "session-2.scope")


def test_a_manager_that_ends_at_logout_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_group, "LINGER", tmp_path)
    name = pwd.getpwuid(os.geteuid()).pw_name
    session, inside = Path("/user.slice/session-2.scope"), Path(f"/user@{os.geteuid()}.service/app.slice/a.scope")
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert f"loginctl enable-linger {name}" in own_group._find_user_manager(session, environment)
    assert "does not run" in own_group._find_user_manager(inside, environment)
    (tmp_path / "systemd").mkdir()
    (tmp_path / "systemd/private").touch()
    assert own_group._find_user_manager(inside, environment) == ""
    (tmp_path / name).touch()
    assert own_group._find_user_manager(session, environment) == ""


def test_the_runtime_folder_of_the_user_is_derived(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment: dict[str, str] = {}
    own_group._find_user_manager(tmp_path, environment)
    assert environment["XDG_RUNTIME_DIR"] == f"/run/user/{os.geteuid()}"


def test_the_unit_starts_the_worker_in_the_leaf() -> None:
    unit = CHECKOUT / "ansible/roles/shard/templates/claude-shard.service.j2"
    assert "\nDelegate=yes\n" in unit.read_text()
    assert f"\nDelegateSubgroup={LEAF}\n" in unit.read_text()
