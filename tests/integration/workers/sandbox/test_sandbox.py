from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from workers.errors import JobError
from workers.sandbox import limits, process_tree
from workers.sandbox.isolation import check
from workers.sandbox.sandbox import Mount, ResourceLimits, Sandbox, SandboxConfig, SandboxedProcess

UID = 64601
CANARY = "canary-7f3a9c51d2"
# No other process on the machine sleeps for exactly this time.
LONG = 100_000 + os.getpid()
# Leaves its session and its parent, ignores signals, and starts more processes.
STUBBORN = f"""
trap '' TERM HUP INT
for n in 1 2 3; do (setsid sh -c 'trap "" TERM HUP INT; (sleep {LONG} & sleep {LONG}) & sleep {LONG}' &) ; done
bomb() {{ [ "$1" -gt 0 ] && {{ bomb $(($1 - 1)) & bomb $(($1 - 1)) & wait; }} ; sleep {LONG}; }}
bomb 4 &
echo ready
sleep {LONG}
"""


def play(
    tmp_path: Path, scene: Callable[[Sandbox], Awaitable[Any]], holds: ResourceLimits | None = None, **options: Any
) -> Any:
    async def whole() -> Any:
        sandbox = Sandbox(SandboxConfig(holds or ResourceLimits(), UID, **options), tmp_path)
        try:
            return await scene(sandbox)
        finally:
            await sandbox.close()

    return asyncio.run(whole())


def shell(tmp_path: Path, script: str, **options: Any) -> str:
    done = play(tmp_path, lambda sandbox: sandbox.run(["sh"], stdin=script.encode(), **options))
    return str(done.stdout.decode() + done.stderr.decode())


async def start_ready(sandbox: Sandbox, script: str) -> SandboxedProcess:
    process = await sandbox.start(["sh", "-c", script], env={})
    assert await process.stdout.readline() == b"ready\n"
    return process


def holders(text: bytes) -> set[int]:
    """Return the processes with this text in their environment or their arguments."""
    found = set()
    for pid in process_tree.snapshot():
        for name in ("environ", "cmdline"):
            with suppress(PermissionError, FileNotFoundError, ProcessLookupError):
                if text in Path(f"/proc/{pid}/{name}").read_bytes():
                    found.add(pid)
    return found


def stubborn() -> set[int]:
    """Return the processes of the stubborn agent anywhere on the machine."""
    found = holders(f"sleep\0{LONG}\0".encode()) | holders(f"sleep {LONG}".encode())
    return {pid for pid in found if (info := process_tree.read(pid)) is not None and info.alive}


def test_a_read_only_path_below_tmp_is_visible(tmp_path: Path) -> None:
    with TemporaryDirectory(dir="/tmp") as shown:
        Path(shown).chmod(0o755)
        (Path(shown) / "program").write_text("here")
        read = ["sh", "-c", f"cat {shown}/program; touch /tmp/mine && ls /tmp"]
        done = play(tmp_path, lambda sandbox: sandbox.run(read), read_only=(Path(shown),))
    assert done.stdout.startswith(b"here")
    assert b"mine" in done.stdout


def test_check_accepts_this_machine() -> None:
    assert check(SandboxConfig(ResourceLimits(), UID)) is None


def test_check_says_why_not() -> None:
    config = SandboxConfig(ResourceLimits(), UID, read_only=(Path("/no/such/place"),))
    assert "/no/such/place" in (check(config) or "")


def test_the_agent_is_an_ordinary_user_without_capabilities(tmp_path: Path) -> None:
    seen = shell(tmp_path, "id -u; id -un; pwd; grep -E 'Cap(Eff|Prm|Bnd|Amb)|NoNewPrivs' /proc/self/status")
    assert seen.split()[:3] == [str(UID), "agent", "/workspace"]
    assert seen.split()[3:] == [
        *("CapPrm:", "0" * 16, "CapEff:", "0" * 16, "CapBnd:", "0" * 16, "CapAmb:", "0" * 16, "NoNewPrivs:", "1")
    ]


def test_the_agent_sees_nothing_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "git").mkdir()
    seen = shell(tmp_path, f"ls /; ls -A /home /home/agent /workspace /tmp; ls {tmp_path} /root /var /run /etc/shadow")
    top = set(seen.split("/home:")[0].split())
    assert top <= {
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "proc",
        "sbin",
        "tmp",
        "usr",
        "workspace",
    }
    for place in (str(tmp_path), "/root", "/var", "/run", "/etc/shadow"):
        assert f"cannot access '{place}'" in seen


def test_the_agent_sees_only_its_own_processes(tmp_path: Path) -> None:
    pids = [int(pid) for pid in shell(tmp_path, "ls /proc | grep -E '^[0-9]+$'").split()]
    assert max(pids) < 20
    assert "No such process" in shell(tmp_path, f"kill -0 {os.getpid() + 1_000_000} || kill -9 {os.getpid()}")


def test_the_system_is_read_only_and_the_agents_own_directories_are_not(tmp_path: Path) -> None:
    tried = shell(
        tmp_path, "for p in / /usr /etc /workspace /home/agent /tmp /dev/shm; do touch $p/x && echo ok $p; done"
    )
    assert [line for line in tried.splitlines() if line.startswith("ok")] == [
        "ok /workspace", "ok /home/agent", "ok /tmp", "ok /dev/shm",
    ]  # fmt: skip


def test_a_link_to_a_file_of_the_host_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(CANARY)
    (tmp_path / "agent/repo").mkdir(parents=True)
    (tmp_path / "agent/repo/link").symlink_to(tmp_path / "secret")
    assert "No such file" in shell(tmp_path, "cat link")


def test_nothing_of_our_environment_and_no_open_file_is_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_SECRET", CANARY)
    with (tmp_path / "open").open("w") as open_file:
        os.set_inheritable(open_file.fileno(), True)
        seen = shell(tmp_path, "env; ls /proc/self/fd", env={"GIVEN": "yes"})
    assert CANARY not in seen
    assert "GIVEN=yes" in seen
    assert seen.split()[-4:] == ["0", "1", "2", "3"]


def test_a_value_of_the_environment_is_seen_in_no_other_process(tmp_path: Path) -> None:
    async def scene(sandbox: Sandbox) -> tuple[set[int], set[int]]:
        process = await sandbox.start(["sh", "-c", "echo ready; sleep 1000; true"], env={"TOKEN": CANARY})
        await process.stdout.readline()
        found = holders(CANARY.encode())
        return found, set(sandbox._members()) - sandbox._bwrap_pids()

    found, inside = play(tmp_path, scene)
    assert found
    assert found <= inside


def test_a_mount_shows_a_file_read_only(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("content\n")
    (tmp_path / "seed").chmod(0o666)
    seen = shell(tmp_path, "cat /opt/seed; echo more >> /opt/seed", mounts=[Mount(tmp_path / "seed", "/opt/seed")])
    assert seen.startswith("content\n")
    assert "Read-only file system" in seen


def test_output_goes_to_a_file_or_is_cut(tmp_path: Path) -> None:
    async def scene(sandbox: Sandbox) -> tuple[bool, int]:
        with (tmp_path / "out").open("wb") as file:
            await sandbox.run(["head", "-c", "100000", "/dev/zero"], stdout_file=file)
        cut = await sandbox.run(["head", "-c", "100000", "/dev/zero"], max_output=1000)
        return cut.truncated, len(cut.stdout)

    assert play(tmp_path, scene) == (True, 1000)
    assert (tmp_path / "out").stat().st_size == 100_000


def test_a_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="took longer than") as caught:
        shell(tmp_path, "sleep 1000 & sleep 1000", timeout_s=0.3)
    assert caught.value.code == "command_timeout"


def test_a_broken_mount_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="/no/such/file") as caught:
        shell(tmp_path, "true", mounts=[Mount(Path("/no/such/file"), "/opt/x")])
    assert caught.value.code == "sandbox_failed"


# --- ResourceLimits ----------------------------------------------------------------------------------------

HUNGRY = ["dd", "if=/dev/zero", "of=/dev/null", "bs=400M", "count=1000"]


@pytest.fixture(params=["groups of this machine", "version 2", "no groups"])
def any_groups(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use this machine's groups, only version 2 (which may have no controllers here), or no writable group."""
    own = {name: path for name, path in limits._own_group_directories().items() if name == limits.V2}
    if request.param == "no groups":
        own = {}
    if request.param != "groups of this machine":
        monkeypatch.setattr("workers.sandbox.limits._own_group_directories", lambda: own)


@pytest.mark.usefixtures("any_groups")
def test_too_much_memory_ends_the_agent_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="more than 100 MB of memory") as caught:
        play(tmp_path, lambda sandbox: sandbox.run(HUNGRY), ResourceLimits(memory_mb=100))
    assert caught.value.code == "agent_out_of_memory"


@pytest.mark.usefixtures("any_groups")
def test_too_many_processes_are_refused(tmp_path: Path) -> None:
    script = ["sh", "-c", "i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done"]
    done = play(tmp_path, lambda sandbox: sandbox.run(script), ResourceLimits(processes=20))
    assert b"fork" in done.stderr.lower()


def test_files_and_core_dumps_are_limited(tmp_path: Path) -> None:
    script = [
        "sh",
        "-c",
        "ulimit -n; ulimit -c; head -c 3000000 /dev/zero > big; ls -s --block-size=1 big | cut -d' ' -f1",
    ]
    done = play(tmp_path, lambda sandbox: sandbox.run(script), ResourceLimits(file_size_mb=1, open_files=99))
    assert done.stdout.split() == [b"99", b"0", b"1048576"]


# --- The end ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("any_groups")
def test_kill_all_leaves_nothing_and_proves_it(tmp_path: Path) -> None:

    async def scene(sandbox: Sandbox) -> Any:
        process = await start_ready(sandbox, STUBBORN)
        await asyncio.sleep(0.3)
        before = stubborn()
        proof = await sandbox.kill_all()
        return before, proof, stubborn(), await process.wait()

    before, proof, after, code = play(tmp_path, scene)
    assert len(before) > 20
    # bubblewrap's own two processes have the script in their arguments, but they are not the agent's.
    assert proof["processes_killed"] >= len(before) - 2
    assert proof["processes_left"] == 0
    assert after == set()
    assert code == 137


def test_kill_all_of_an_empty_sandbox_returns_a_proof(tmp_path: Path) -> None:
    proof = play(tmp_path, lambda sandbox: sandbox.kill_all())
    assert (proof["processes_killed"], proof["processes_left"]) == (0, 0)


def test_the_sandbox_can_be_used_after_a_kill(tmp_path: Path) -> None:
    async def scene(sandbox: Sandbox) -> bytes:
        await start_ready(sandbox, "echo ready; sleep 1000")
        await sandbox.kill_all()
        return (await sandbox.run(["echo", "again"])).stdout

    assert play(tmp_path, scene) == b"again\n"


@pytest.mark.usefixtures("any_groups")
def test_a_frozen_agent_does_nothing_until_it_is_thawed(tmp_path: Path) -> None:
    counter = tmp_path / "agent/repo/counter"

    async def grows(size: int) -> None:
        for _ in range(3000):
            if counter.exists() and counter.stat().st_size > size:
                return
            await asyncio.sleep(0.02)

    async def scene(sandbox: Sandbox) -> list[int]:
        await start_ready(
            sandbox, "echo ready; (setsid sh -c 'while :; do echo >> counter; sleep 0.01; done' &); sleep 1000"
        )
        sizes = [0]
        for _ in range(2):
            await grows(sizes[-1])
            await sandbox.freeze()
            sizes.append(counter.stat().st_size)
            await asyncio.sleep(0.2)
            sizes.append(counter.stat().st_size)
            await sandbox.thaw()
        await sandbox.freeze()
        assert (await sandbox.kill_all())["processes_left"] == 0
        return sizes

    _, first, still_first, second, still_second = play(tmp_path, scene)
    assert 0 < first == still_first < second == still_second


def test_an_agent_dies_with_its_runner(tmp_path: Path) -> None:
    async def scene(sandbox: Sandbox) -> set[int]:
        process = await start_ready(sandbox, STUBBORN)
        assert stubborn()
        # The kernel sends this signal to bubblewrap when its parent has ended.
        process.process.kill()
        await process.wait()
        for _ in range(500):
            if not stubborn():
                break
            await asyncio.sleep(0.01)
        return stubborn()

    assert play(tmp_path, scene) == set()


def test_close_removes_the_groups_and_may_be_repeated(tmp_path: Path) -> None:
    async def scene(sandbox: Sandbox) -> list[Path]:
        made = list(sandbox._groups._dirs.values())
        await start_ready(sandbox, "echo ready; sleep 1000")
        await sandbox.close()
        await sandbox.close()
        return made

    assert [path for path in play(tmp_path, scene) if path.exists()] == []


def test_groups_of_an_ended_runner_are_swept(tmp_path: Path) -> None:
    made = limits.Groups.create("agent-999999999-1-stale", limits._own_group_directories(), ResourceLimits())
    kept = limits.create_groups(ResourceLimits(), process_tree.read(os.getpid()).started)  # type: ignore[union-attr]  # it is us
    limits.sweep_groups()
    assert [path for path in made._dirs.values() if path.exists()] == []
    assert all(path.exists() for path in kept._dirs.values())
    assert kept.remove()


# --- Without bubblewrap ----------------------------------------------------------------------------


def hide_bwrap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.sandbox.process.TOOLS", "/no/such/path")


def test_without_bubblewrap_a_shard_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_bwrap(monkeypatch)
    with pytest.raises(JobError, match="install the package 'bubblewrap'") as caught:
        Sandbox(SandboxConfig(ResourceLimits(), UID), tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("sandbox_failed", True)
    assert "bubblewrap" in (check(SandboxConfig(ResourceLimits(), UID)) or "")


def test_where_it_is_allowed_the_agent_runs_without_a_sandbox_and_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_bwrap(monkeypatch)
    monkeypatch.setenv("WORKER_SECRET", CANARY)

    async def scene(sandbox: Sandbox) -> bytes:
        assert "NOTHING IS ISOLATED" in sandbox.describe()
        seed = Mount(tmp_path / "seed", "/opt/seed")
        return (await sandbox.run(["sh", "-c", "pwd; env; cat /opt/seed"], mounts=[seed])).stdout

    (tmp_path / "seed").write_text("content")
    seen = play(tmp_path, scene, isolated=False)
    assert seen.startswith(f"{tmp_path}/agent/repo\n".encode())
    assert seen.endswith(b"content")
    assert CANARY.encode() not in seen


@pytest.mark.usefixtures("any_groups")
def test_without_a_sandbox_kill_all_finds_the_orphans_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hide_bwrap(monkeypatch)

    async def scene(sandbox: Sandbox) -> Any:
        await start_ready(sandbox, STUBBORN)
        await asyncio.sleep(0.3)
        return len(stubborn()), await sandbox.kill_all(), stubborn()

    before, proof, after = play(tmp_path, scene, isolated=False)
    assert proof["processes_killed"] >= before > 20
    assert proof["processes_left"] == 0
    assert after == set()
