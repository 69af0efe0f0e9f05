from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.errors import JobError
from workers.sandbox.agent_users import USERS, AgentUser

FIRST = 64600
HOLD = """
import sys
from pathlib import Path
from unittest.mock import patch
from workers.sandbox.agent_users import AgentUser
with patch("os.geteuid", lambda: 0):
    user = AgentUser.reserve(64600, 0, Path(sys.argv[1]))
print(user.number, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)


@pytest.fixture
def reserved(tmp_path: Path) -> Iterator[list[AgentUser]]:
    users: list[AgentUser] = []
    yield users
    for user in users:
        user.release()


def test_the_same_slot_of_two_shards_has_two_users(tmp_path: Path, reserved: list[AgentUser]) -> None:
    reserved += [AgentUser.reserve(FIRST, 3, tmp_path / "new" / "agents") for _ in range(2)]
    assert [user.number for user in reserved] == [FIRST + 3, FIRST + 4]


def test_a_released_user_is_free_again(tmp_path: Path, reserved: list[AgentUser]) -> None:
    user = AgentUser.reserve(FIRST, 0, tmp_path)
    user.release()
    user.release()
    reserved.append(AgentUser.reserve(FIRST, 0, tmp_path))
    assert reserved[0].number == FIRST


def test_all_users_are_within_the_range_of_the_network_rules(tmp_path: Path, reserved: list[AgentUser]) -> None:
    reserved += [AgentUser.reserve(FIRST, USERS - 1, tmp_path) for _ in range(USERS)]
    assert {user.number for user in reserved} == set(range(FIRST, FIRST + USERS))
    with pytest.raises(JobError, match="All 64 users") as caught:
        AgentUser.reserve(FIRST, 0, tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)


def test_a_killed_runner_keeps_no_user(tmp_path: Path, reserved: list[AgentUser]) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        assert runner.stdout.readline() == f"{FIRST}\n"
        reserved.append(AgentUser.reserve(FIRST, 0, tmp_path))
        runner.kill()
    reserved.append(AgentUser.reserve(FIRST, 0, tmp_path))
    assert [user.number for user in reserved] == [FIRST + 1, FIRST]


def test_a_folder_that_cannot_be_used_fails_the_job(tmp_path: Path) -> None:
    (tmp_path / "agents").write_text("")
    with pytest.raises(JobError) as caught:
        AgentUser.reserve(FIRST, 0, tmp_path / "agents")
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)


def test_without_root_there_is_no_other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    assert [AgentUser.reserve(FIRST, 2, tmp_path).number for _ in range(2)] == [FIRST + 2] * 2
    assert list(tmp_path.iterdir()) == []
