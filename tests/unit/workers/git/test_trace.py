from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import pytest

from workers.errors import JobError
from workers.git.command import Git
from workers.git.trace import (
    MAX_ERRORS,
    GitError,
    GitTrace,
    Limit,
    open_trace,
    trace_of_lines,
    trace_of_messages,
)


def event(kind: str, **values: object) -> str:
    return json.dumps({"event": kind, **values}, separators=(",", ":"))


def test_errors_have_the_format_of_gits_source() -> None:
    trace = trace_of_lines([event("start"), event("error", msg="'/r' is bad", fmt="'%s' is bad"), "fatal: no event"])
    assert trace == GitTrace((GitError("'%s' is bad", "'/r' is bad"),))


@pytest.mark.parametrize("line", ['{"event":"error"', '{"event":"' + "[" * 9000, '{"event":"error","fmt":7}', "", "{}"])
def test_a_malformed_event_does_no_harm(line: str) -> None:
    assert trace_of_lines([line]).limit is None


def test_the_number_of_errors_is_bounded() -> None:
    line = event("error", msg="x" * 60_000, fmt="x")
    trace = trace_of_lines([line] * 3 * MAX_ERRORS)
    assert (len(trace.errors), len(trace.errors[0].text)) == (MAX_ERRORS, 2000)


@pytest.mark.parametrize(
    ("form", "text", "limit"),
    [
        ("write error: No space left on device", "write error: No space left on device", Limit.DISK),
        ("write error: File too large", "write error: File too large", Limit.FILE_SIZE),
        ("%s died of signal %d", "index-pack died of signal 25", Limit.FILE_SIZE),
        ("%s died of signal %d", "index-pack died of signal 9", None),
        ("cannot fork() for %s: Resource temporarily unavailable", "cannot fork() for x: ...", Limit.PROCESSES),
        ("Out of memory, malloc failed (tried to allocate %lu bytes)", "Out of memory, ...", Limit.MEMORY),
        ("remote error: %s", "remote error: No space left on device", None),
        ("unable to access '%s': %s", "unable to access 'x': No space left on device", None),
    ],
)
def test_the_limit_is_in_gits_format(form: str, text: str, limit: Limit | None) -> None:
    assert GitTrace((GitError(form, text),)).limit is limit


def test_messages_of_programs_without_events_end_with_the_systems_error() -> None:
    assert trace_of_messages("cp: error writing 'x': No space left on device\n").limit is Limit.DISK
    assert trace_of_messages("'No space left on device' is a file\n").limit is None


def test_git_reports_its_errors_apart_from_what_it_prints(tmp_path: Path) -> None:
    result = asyncio.run(Git(home=tmp_path).run(["ls-remote", "--", "/nowhere"], cwd=tmp_path))
    assert result.returncode == 128
    assert [error.format for error in result.trace.errors] == ["transport '%s' not allowed"]


def test_a_process_that_keeps_the_pipe_does_not_keep_the_runner(tmp_path: Path) -> None:
    async def call() -> subprocess.Popen[bytes]:
        with open_trace() as trace:
            left = subprocess.Popen(["sleep", "600"], pass_fds=(trace.descriptor,))
            os.write(trace.descriptor, (event("error", msg="last", fmt="last") + "\n").encode())
        assert trace.reader.errors == [GitError("last", "last")]
        return left

    left = asyncio.run(call())
    left.kill()
    left.wait()


def test_a_flood_of_events_is_read_and_dropped(tmp_path: Path) -> None:
    async def call() -> int:
        with open_trace() as trace:
            process = await asyncio.create_subprocess_exec(
                *(
                    "sh",
                    "-c",
                    f"yes '{event('error', msg='m', fmt='f')}' | head -n 20000 > {trace.env['GIT_TRACE2_EVENT']}",
                ),
                pass_fds=(trace.descriptor,),
            )
            await process.wait()
        return len(trace.reader.errors)

    assert asyncio.run(call()) == MAX_ERRORS


def test_a_full_limit_of_processes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git = Git(home=tmp_path)
    counts = iter([4, 5])
    monkeypatch.setattr(git.confinement, "refused_processes", lambda: next(counts))
    with pytest.raises(JobError, match=r"limit of 256 processes \(sandbox.processes\)") as caught:
        asyncio.run(git.run(["no-such-command"], cwd=tmp_path))
    assert (caught.value.code, caught.value.retryable) == ("git_process_limit", True)
