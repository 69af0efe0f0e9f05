"""Real processes under the supervisor."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from myctobot.lib.failing_parts import read_report
from myctobot.stack import restart
from myctobot.stack import supervisor as supervisor_module
from myctobot.stack.console import StackConsole
from myctobot.stack.errors import ServiceFailed
from myctobot.stack.postgres import EmbeddedPostgres
from myctobot.stack.processes import ProcessId, Records, wait_until_gone
from myctobot.stack.programs import Program
from myctobot.stack.supervisor import Supervisor

PATIENCE_S = 30.0


class Bench:
    """A supervisor with its output at hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = io.StringIO()
        self.supervisor = Supervisor(StackConsole(self.output), Records(folder))

    def program(self, name: str, script: str, stop_timeout_s: float = 10) -> Program:
        return Program(name, ("sh", "-c", script), {"PATH": os.defpath}, self.folder, stop_timeout_s=stop_timeout_s)

    def lines(self, name: str) -> list[str]:
        parts = (line.split(" ", 1)[1].partition("| ") for line in self.output.getvalue().splitlines())
        return [text for prefix, _, text in parts if prefix.strip() == name]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - what is waited for is another process's output
                await asyncio.sleep(0.02)


def run(folder: Path, scenario: Callable[[Bench], Awaitable[None]]) -> Bench:
    async def main() -> Bench:
        bench = Bench(folder)
        try:
            await scenario(bench)
        finally:
            await bench.supervisor.stop_all()
        return bench

    return asyncio.run(main())


def test_lines_are_shown_under_their_name(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(bench.program("one", "echo out; echo err >&2; sleep 60"))
        await bench.until(lambda: len(bench.lines("one")) == 2)

    assert run(tmp_path, scenario).lines("one") == ["out", "err"]


def test_a_very_long_line_comes_in_pieces(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(bench.program("one", "head -c 200000 /dev/zero | tr '\\0' x; echo; echo end; sleep 60"))
        await bench.until(lambda: "end" in bench.lines("one"))

    assert sum(map(len, run(tmp_path, scenario).lines("one"))) == 200_003


def test_a_killed_process_starts_again_while_the_others_go_on(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(bench.program("one", "echo one $$; sleep 60"))
        bench.supervisor.start(bench.program("two", "echo two; sleep 60"))
        await bench.until(lambda: bool(bench.lines("one") and bench.lines("two")))
        os.kill(int(bench.lines("one")[0].split()[1]), signal.SIGKILL)
        await bench.until(lambda: len(bench.lines("one")) == 2)

    bench = run(tmp_path, scenario)
    assert bench.lines("two") == ["two"]
    assert any("one ended with signal SIGKILL" in line for line in bench.lines("stack"))


def test_a_process_that_cannot_start_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.supervisor = Supervisor(StackConsole(bench.output), Records(tmp_path), give_up_after=5)
        bench.supervisor.start(bench.program("broken", "echo no such setting; exit 7"))
        async with asyncio.timeout(PATIENCE_S):
            error = await bench.supervisor.failed
        assert "broken ended 5 times in a row right after its start, with exit code 7" in str(error)
        assert "no such setting" in str(error)

    assert len(run(tmp_path, scenario).lines("broken")) == 5


def test_each_end_of_a_process_with_a_log_shows_the_reason_and_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "FIRST_WAIT_S", 0.01)
    log = tmp_path / "server.log"

    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(replace(bench.program("server", "echo no room; exit 7"), log=log))
        await bench.until(lambda: sum("server ended" in line for line in bench.lines("stack")) == 7)
        assert not bench.supervisor.failed.done()

    lines = run(tmp_path, scenario).lines("stack")
    ends = [at for at, line in enumerate(lines) if line.startswith("server ended with exit code 7; restarting it in")]
    assert all(lines[at].endswith(f"; its log: {log}") for at in ends)
    assert all(lines[at + 1].strip() == "no room" for at in ends)


def test_the_time_to_answer_counts_from_the_last_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "FIRST_WAIT_S", 0.1)
    started = tmp_path / "started"

    async def scenario(bench: Bench) -> None:
        # Each of the five failed starts takes half of the time that one start may take.
        script = f"echo >> {started}; test $(wc -l < {started}) -gt 5 && touch {tmp_path}/up && sleep 60; sleep 0.5"
        bench.supervisor.start(bench.program("slow", script))
        await bench.supervisor.wait_until("slow", (tmp_path / "up").exists, 1)

    run(tmp_path, scenario)


def test_a_process_that_does_not_start_is_reported_and_tried_again_while_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(supervisor_module, "STABLE_AFTER_S", 3.0)
    report, may_start = tmp_path / "failing", tmp_path / "may-start"

    async def scenario(bench: Bench) -> None:
        bench.supervisor = Supervisor(StackConsole(bench.output), Records(tmp_path), report)
        bench.supervisor.start(bench.program("one", "echo up; sleep 60"))
        bench.supervisor.start(bench.program("late", f"test -e {may_start} && sleep 60; echo no room"))
        await bench.until(lambda: len(bench.lines("late")) > 6)
        (part,) = read_report(report)
        assert (part.name, part.until) == ("late", None)
        assert part.failed_starts >= 3
        assert not bench.supervisor.failed.done()
        may_start.touch()
        await bench.until(lambda: bool(read_report(report)[0].until))

    bench = run(tmp_path, scenario)
    assert bench.lines("one") == ["up"]
    assert "late does not start; its last lines:" in bench.lines("stack")
    assert any(line.strip() == "no room" for line in bench.lines("stack"))
    assert report.stat().st_mode & 0o777 == 0o644


def test_a_wait_without_an_end_goes_on_until_the_answer(tmp_path: Path) -> None:
    answers = iter([False] * 5 + [True])

    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(bench.program("one", "sleep 60"))
        await bench.supervisor.wait_until("one", lambda: next(answers), None)

    run(tmp_path, scenario)
    assert next(answers, "none") == "none"


def test_server_processes_of_a_killed_postmaster_that_hang_are_removed(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / "home", durable=False)
    postgres.home.prepare()
    postgres.prepare()

    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(postgres.program(), postgres.program_again)
        await bench.supervisor.wait_until("postgres", postgres.is_ready, PATIENCE_S)
        postgres.finish()
        with psycopg.connect(postgres.url) as client:
            hanging = ProcessId.of(client.info.backend_pid)
            assert hanging
            hanging.signal(signal.SIGSTOP)
            (postmaster,) = bench.supervisor.pids()
            os.kill(postmaster, signal.SIGKILL)
            await bench.until(lambda: bench.supervisor.pids() != {postmaster})
            await bench.supervisor.wait_until("postgres", postgres.is_ready, PATIENCE_S)
            assert not hanging.is_alive()

    bench = run(tmp_path, scenario)
    postgres.clean_up()
    assert sum("postgres ended" in line for line in bench.lines("stack")) == 1


def test_a_process_whose_record_cannot_be_written_is_watched_and_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_RECORD_AGAIN_S", 0.1)
    records = tmp_path / "records"

    async def scenario(bench: Bench) -> None:
        bench.supervisor = Supervisor(StackConsole(bench.output), Records(records))
        bench.supervisor.start(bench.program("one", "echo up $$; sleep 60"))
        await bench.until(lambda: len(bench.lines("one")) == 1)
        os.kill(int(bench.lines("one")[0].split()[1]), signal.SIGKILL)
        await bench.until(lambda: len(bench.lines("one")) == 2)
        records.mkdir()
        await bench.until((records / "one.json").exists)

    bench = run(tmp_path, scenario)
    assert any("one cannot be recorded" in line for line in bench.lines("stack"))
    assert list(records.iterdir()) == []


def test_a_process_that_could_not_be_started_is_started_again(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        program = bench.program("one", "echo up; exit 1")
        bench.supervisor.start(replace(program, cwd=tmp_path / "later"))
        await bench.until(lambda: any("No such file" in line for line in bench.lines("stack")))
        (tmp_path / "later").mkdir()
        await bench.until(lambda: "up" in bench.lines("one"))

    run(tmp_path, scenario)


def test_an_error_while_a_program_is_prepared_again_does_not_end_its_restarts(tmp_path: Path) -> None:
    tries: list[int] = []

    async def scenario(bench: Bench) -> None:
        program = bench.program("one", "echo up; exit 1")

        def rebuild() -> Program:
            tries.append(1)
            if len(tries) == 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return program

        bench.supervisor.start(program, rebuild)
        await bench.until(lambda: len(bench.lines("one")) == 2)

    bench = run(tmp_path, scenario)
    assert any("No space left on device" in line for line in bench.lines("stack"))


def test_stopping_goes_backwards(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        for name in ("database", "web", "shard"):
            script = f"trap 'echo {name} >> stopped; exit' TERM; echo up; while :; do sleep 0.05; done"
            bench.supervisor.start(bench.program(name, script))
        await bench.until(lambda: all(bench.lines(name) for name in ("database", "web", "shard")))

    run(tmp_path, scenario)
    assert (tmp_path / "stopped").read_text().split() == ["shard", "web", "database"]


def test_a_process_that_does_not_stop_is_killed_with_its_group(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        script = "trap '' TERM; sleep 60 & echo $!; while :; do sleep 1; done"
        bench.supervisor.start(bench.program("deaf", script, stop_timeout_s=0.2))
        await bench.until(lambda: bool(bench.lines("deaf")))

    bench = run(tmp_path, scenario)
    child = ProcessId.of(int(bench.lines("deaf")[0]))
    assert child is None or wait_until_gone([child], 10) == []
    assert any("deaf did not stop within 0.2 s" in line for line in bench.lines("stack"))


def test_a_step_that_fails_shows_what_it_wrote(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(ServiceFailed, match=r"migrate ended with exit code 3.*\n.*no table"):
            await bench.supervisor.run_once(bench.program("migrate", "echo no table >&2; exit 3"), PATIENCE_S)

    run(tmp_path, scenario)


def test_a_step_that_hangs_is_ended(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        with pytest.raises(ServiceFailed, match=r"took longer than 0\.2 s"):
            await bench.supervisor.run_once(bench.program("migrate", "sleep 60"), 0.2)

    run(tmp_path, scenario)


def test_a_secret_answer_is_not_shown(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        program = bench.program("bootstrap", "echo canary; echo note >&2")
        assert await bench.supervisor.run_once(program, PATIENCE_S, secret=True) == "canary"

    bench = run(tmp_path, scenario)
    assert "canary" not in bench.output.getvalue()
    assert bench.lines("bootstrap") == ["note"]


def test_waiting_names_who_does_not_answer(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(bench.program("web", "echo still loading; sleep 60"))
        await bench.until(lambda: bool(bench.lines("web")))
        with pytest.raises(ServiceFailed, match=r"web did not answer within 0\.2 s.*\n.*still loading"):
            await bench.supervisor.wait_until("web", lambda: False, 0.2)

    run(tmp_path, scenario)


def test_records_exist_only_while_processes_run(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.supervisor.start(bench.program("one", "sleep 60"))
        await bench.until(lambda: (tmp_path / "one.json").exists())

    run(tmp_path, scenario)
    assert list(tmp_path.glob("*.json")) == []
