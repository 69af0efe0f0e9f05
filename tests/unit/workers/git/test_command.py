from __future__ import annotations

import asyncio
import os
from pathlib import Path

import psutil
import pytest

from workers.errors import JobError
from workers.git.command import Git, check_space
from workers.git.process import MAX_LINES, Result, last_line, printable_line, run_process

ENV = {"PATH": os.defpath}


async def run(script: str, tmp_path: Path, *, timeout_s: float = 20, max_output: int = 1000) -> Result:
    return await run_process(["sh", "-c", script], env=ENV, cwd=tmp_path, timeout_s=timeout_s, max_output=max_output)


def test_output_is_kept_up_to_the_limit(tmp_path: Path) -> None:
    result = asyncio.run(run("head -c 300000 /dev/zero; echo why >&2; exit 3", tmp_path))
    assert (result.returncode, len(result.stdout), result.truncated, result.stderr) == (3, 1000, True, "why\n")


def test_output_within_the_limit_is_complete(tmp_path: Path) -> None:
    result = asyncio.run(run("head -c 1000 /dev/zero", tmp_path))
    assert (len(result.stdout), result.truncated) == (1000, False)


def test_a_time_out_ends_the_whole_group(tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        asyncio.run(run("sleep 600 & echo $! > pid; wait", tmp_path, timeout_s=1))
    assert (caught.value.code, caught.value.retryable) == ("git_timeout", True)
    assert _has_ended(int((tmp_path / "pid").read_text()))


def test_a_cancelled_call_ends_the_whole_group(tmp_path: Path) -> None:
    async def cancel() -> int:
        said: asyncio.Queue[str] = asyncio.Queue()
        command = ["sh", "-c", "sleep 600 & echo $! >&2; wait"]
        task = asyncio.create_task(run_process(command, env=ENV, cwd=tmp_path, timeout_s=60, on_line=said.put))
        pid = int(await said.get())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pid

    assert _has_ended(asyncio.run(cancel()))


def _has_ended(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or process.wait(timeout=10) is None
    except psutil.NoSuchProcess:
        return True


def test_complete_lines_are_forwarded_without_control_characters(tmp_path: Path) -> None:
    lines: list[str] = []

    async def keep(line: str) -> None:
        lines.append(line)

    script = r"printf 'a: 1%%\ra: 2%%\rdone\n\033[31mred\033[0m\nunfinished' >&2"
    asyncio.run(run_process(["sh", "-c", script], env=ENV, cwd=tmp_path, timeout_s=20, on_line=keep))
    assert lines == ["a: 1%", "a: 2%", "done", "[31mred [0m", "unfinished"]


def test_lines_without_end_are_forwarded_up_to_a_bound(tmp_path: Path) -> None:
    lines: list[str] = []

    async def keep(line: str) -> None:
        lines.append(line)

    script = f"yes | head -n {3 * MAX_LINES} >&2; echo last >&2"
    result = asyncio.run(run_process(["sh", "-c", script], env=ENV, cwd=tmp_path, timeout_s=60, on_line=keep))
    assert len(lines) == MAX_LINES
    assert result.stderr.endswith("last\n")


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="'no-such-git' is not installed"):
        asyncio.run(run_process(["no-such-git"], env=ENV, cwd=tmp_path, timeout_s=1))


def test_nothing_of_the_callers_environment_reaches_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_SSH_COMMAND", "HTTPS_PROXY", "GIT_CONFIG_COUNT", "LD_PRELOAD", "SOME_KEY"):
        monkeypatch.setenv(name, "canary")
    assert "canary" not in Git(home=tmp_path).environment().values()


def test_a_users_configuration_is_not_read(tmp_path: Path) -> None:
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = canary\n")
    result = asyncio.run(Git(home=tmp_path).run(["config", "user.name"], cwd=tmp_path))
    assert result.stdout == b""


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("warning: a\nfatal: b\nhint: c\n", "fatal: b"),
        ("error: object 1: hasDotgit: x\nfatal: fsck error", "error: object 1: hasDotgit: x"),
        ("just this\n\n", "just this"),
        ("", "no reason given"),
    ],
)
def test_the_line_with_the_cause_is_found(stderr: str, expected: str) -> None:
    assert last_line(stderr) == expected


def test_control_characters_are_replaced() -> None:
    assert printable_line("\x1b]0;title\x07ok\u202e") == "]0;title ok"


@pytest.mark.parametrize("stderr", ["error: write error: No space left on device\n", "fatal: Disk quota exceeded"])
def test_a_full_disk_is_found_in_the_messages(stderr: str) -> None:
    with pytest.raises(JobError) as caught:
        check_space(stderr)
    assert (caught.value.code, caught.value.retryable) == ("disk_full", True)


def test_other_messages_are_no_full_disk() -> None:
    check_space("fatal: bad object\n")
