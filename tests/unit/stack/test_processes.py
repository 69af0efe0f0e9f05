from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from myctobot.stack.processes import ProcessId, Records, wait_until_gone


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    found = ProcessId.of(process.pid)
    assert found
    return found


def test_a_living_process_is_alive(sleeper: subprocess.Popen[bytes]) -> None:
    assert identity(sleeper).is_alive()


def test_a_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity(sleeper)
    process.kill()
    assert wait_until_gone([process], 10) == []


def test_a_reused_number_is_another_process(sleeper: subprocess.Popen[bytes]) -> None:
    other = ProcessId(sleeper.pid, identity(sleeper).start_time - 1)
    other.kill()
    other.kill_session()
    assert not other.is_alive()
    assert identity(sleeper).is_alive()


def test_processes_that_do_not_end_are_returned(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity(sleeper)
    assert wait_until_gone([process], 0.05) == [process]


def test_a_session_goes_as_a_whole() -> None:
    shell = subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo $!; wait"], start_new_session=True, stdout=subprocess.PIPE, text=True
    )
    assert shell.stdout
    with shell, shell.stdout:
        child = ProcessId.of(int(shell.stdout.readline()))
        leader = ProcessId.of(shell.pid)
        assert child
        assert leader
        leader.kill_session()
        assert wait_until_gone([child, leader], 10) == []


def test_leftovers_get_their_own_signal(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    records = Records(tmp_path)
    records.write("postgres", sleeper.pid, signal.SIGINT)
    assert records.stop_leftovers() == ["postgres"]
    assert sleeper.wait(10) == -signal.SIGINT
    assert list(tmp_path.iterdir()) == []


def test_a_leftover_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    deaf = subprocess.Popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 1; done"], stdout=subprocess.PIPE)
    with deaf:
        assert deaf.stdout
        deaf.stdout.readline()
        records = Records(tmp_path)
        records.write("web", deaf.pid, signal.SIGTERM)
        records.stop_leftovers(timeout_s=0.2)
        assert deaf.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"pid": "x", "start_time": 1, "stop_signal": 15}'])
def test_a_damaged_record_is_dropped(tmp_path: Path, content: str) -> None:
    (tmp_path / "web.json").write_text(content)
    assert Records(tmp_path).stop_leftovers() == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_with_a_reused_pid_stops_no_process(tmp_path: Path) -> None:
    (tmp_path / "web.json").write_text(f'{{"pid": {os.getpid()}, "start_time": 1, "stop_signal": 15}}')
    assert Records(tmp_path).stop_leftovers() == []
