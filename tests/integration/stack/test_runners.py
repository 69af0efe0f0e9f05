"""Stopping job runners, which have sessions of their own and are nobody's children any more."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from myctobot.stack.home import Home
from myctobot.stack.processes import ProcessId, wait_until_gone
from myctobot.stack.runners import live_runners, stop_runners


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    (made.shards / "local" / "run").mkdir(parents=True)
    return made


def register(home: Home, pid: int, start_time: int | None = None) -> None:
    known = ProcessId.of(pid)
    assert known
    entry = {"pid": pid, "start_time": start_time or known.start_time, "job_id": "j", "attempt": 1, "slot": 0}
    (home.shards / "local" / "run" / f"j.1.{pid}.json").write_text(json.dumps(entry))


def start(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_a_runner_may_finish_its_report(home: Home, tmp_path: Path) -> None:
    with start(f"trap 'echo done > {tmp_path}/report; exit' TERM; echo; while :; do sleep 0.05; done") as runner:
        first_line(runner)
        register(home, runner.pid)
        assert stop_runners(home) == 0
    assert (tmp_path / "report").read_text() == "done\n"


def test_a_runner_that_does_not_stop_goes_with_its_session(home: Home) -> None:
    with start("trap '' TERM; sleep 60 & echo $!; while :; do sleep 1; done") as runner:
        child = ProcessId.of(int(first_line(runner)))
        assert child
        register(home, runner.pid)
        assert stop_runners(home, grace_s=0.2) == 1
        assert wait_until_gone([child], 10) == []


def test_a_process_that_has_a_runners_old_number_is_left_alone(home: Home) -> None:
    with start("sleep 60") as other:
        register(home, other.pid, start_time=1)
        assert live_runners(home) == []
        assert stop_runners(home) == 0
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": null, "start_time": 1}'])
def test_a_damaged_entry_is_passed_over(home: Home, content: str) -> None:
    (home.shards / "local" / "run" / "j.json").write_text(content)
    assert live_runners(home) == []
