"""Fork server and its runners, as real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from myctobot.stack.plan import CHECKOUT
from tests.fixtures.broker import ControlStandIn, control_stand_in, eventually, job_named
from tests.integration.workers.test_main import config_file
from workers.config import load_config
from workers.runner_registry import Registry
from workers.sandbox import process_tree
from workers.worker import runner_process
from workers.worker.runner_process import UNKNOWN_EXIT, ForkServerClient, RunnerProcess
from workers.worker.spawner import Spawner

END_S = 60.0
KEY = "mcts_a-key-that-only-runners-may-know"


@pytest.fixture
def control() -> Iterator[ControlStandIn]:
    with control_stand_in([]) as made:
        yield made


@pytest.fixture
def config(tmp_path: Path, control: ControlStandIn) -> Path:
    return config_file(tmp_path, executor="scripted", control_url=control.url, shard_key=KEY, max_concurrent_jobs=8)


@pytest.fixture
def server(config: Path) -> Iterator[ForkServerClient]:
    with closing(ForkServerClient("scripted", config)) as made:
        yield made


def parent(pid: int) -> int:
    info = process_tree.read(pid)
    assert info is not None
    return info.parent


def has_ended(pid: int) -> Callable[[], bool]:
    return lambda: process_tree.read(pid) is None


def order(text: str) -> bytes:
    return json.dumps({"job_id": job_named(text), "attempt": 1, "slot": 0}).encode() + b"\n"


def end(runner: RunnerProcess) -> int:
    """Wait for the end of a runner that waits for its order, and return its exit code."""
    runner.end_input()
    assert runner.wait(END_S)
    with closing(runner):
        return runner.exit_code()


def test_the_exit_code_of_each_end_arrives(server: ForkServerClient, config: Path) -> None:
    assert end(server.spawn()) == 0
    killed = server.spawn()
    killed.kill()
    assert end(killed) == -signal.SIGKILL
    config.write_text("{}")
    assert end(server.spawn()) == 1


def test_no_zombie_and_no_child_of_the_worker_stays(server: ForkServerClient) -> None:
    runner = server.spawn()
    assert not {runner.pid, parent(runner.pid)} & {child.pid for child in psutil.Process().children()}
    end(runner)
    # The exit code arrives after the runner was reaped.
    assert process_tree.read(runner.pid) is None


def test_a_runner_leads_a_session_and_has_only_standard_descriptors(server: ForkServerClient) -> None:
    first, second = server.spawn(), server.spawn()
    eventually(lambda: os.getsid(second.pid) == second.pid, "it leads no session")
    if os.geteuid() == 0:
        folder = Path(f"/proc/{second.pid}/fd")
        eventually(lambda: {path.name for path in folder.iterdir()} == {"0", "1", "2"}, "descriptors leak")
        output = [[Path(f"/proc/{pid}/fd/{number}").readlink() for number in (1, 2)] for pid in (second.pid, "self")]
        assert output[0] == output[1]
    assert (end(first), end(second)) == (0, 0)


def test_a_burst_starts_all_runners(config: Path, control: ControlStandIn) -> None:
    jobs = [job_named(f"burst{number}") for number in range(8)]
    with closing(Spawner(load_config(config), config)) as spawner, ThreadPoolExecutor(len(jobs)) as threads:
        codes = list(threads.map(lambda job: spawner.run(job, 1), jobs))
    assert codes == [0] * len(jobs)
    assert sorted(control.claimed) == jobs


def test_a_killed_server_is_replaced_and_its_runners_continue(
    server: ForkServerClient, control: ControlStandIn
) -> None:
    control.claim_status = 503
    old = server.spawn()
    first = parent(old.pid)
    os.kill(first, signal.SIGKILL)
    new = server.spawn()
    assert parent(new.pid) != first
    old.send(order("old"))
    eventually(lambda: job_named("old") in control.claimed, "the old runner does not claim")
    control.claim_status = 409
    assert end(old) == UNKNOWN_EXIT
    assert end(new) == 0


def test_a_silent_server_is_killed_and_replaced(server: ForkServerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_process, "_ANSWER_TIMEOUT_S", 1.0)
    old = server.spawn()
    first = parent(old.pid)
    os.kill(first, signal.SIGSTOP)
    monkeypatch.undo()
    new = server.spawn()
    assert parent(new.pid) != first
    eventually(has_ended(first), "the silent server stays")
    assert (end(old), end(new)) == (UNKNOWN_EXIT, 0)


def test_the_error_of_a_server_that_cannot_start_is_raised(config: Path) -> None:
    with (
        closing(ForkServerClient("no_such_executor", config)) as server,
        pytest.raises(ConnectionError, match="it has ended"),
    ):
        server.spawn()


# A request needs two, and a third for the new process.
@pytest.mark.needs("root")
@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_lack_of_descriptors_refuses_one_request_only(server: ForkServerClient, room: int) -> None:
    runners = [server.spawn()]
    forker = psutil.Process(parent(runners[0].pid))
    soft, hard = forker.rlimit(psutil.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path(f"/proc/{forker.pid}/fd").iterdir()}
    # The limit is on the numbers of descriptors.
    free = [number for number in range(len(used) + room + 1) if number not in used]
    forker.rlimit(psutil.RLIMIT_NOFILE, (free[room], hard))
    with pytest.raises(OSError, match="Too many open files"):
        server.spawn()
    forker.rlimit(psutil.RLIMIT_NOFILE, (soft, hard))
    runners.append(server.spawn())
    assert [parent(runner.pid) for runner in runners] == [forker.pid] * 2
    assert [child.pid for child in forker.children()] == [runner.pid for runner in runners]
    assert [end(runner) for runner in runners] == [0, 0]


_WORKER = """
import signal, sys
from pathlib import Path
from workers.worker.runner_process import ForkServerClient
server = ForkServerClient("scripted", Path(sys.argv[1]))
waiting, working = server.spawn(), server.spawn()
working.send(sys.argv[2].encode())
print(waiting.pid, working.pid, flush=True)
signal.pause()
"""


def test_the_server_of_a_killed_worker_ends_with_its_last_runner(config: Path, control: ControlStandIn) -> None:
    control.claim_status = 503
    command = [sys.executable, "-c", _WORKER, str(config), order("last").decode()]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        waiting, working = map(int, worker.stdout.readline().split())
        server = parent(working)
        eventually(lambda: control.claimed, "the runner does not work")
        worker.kill()
    # A runner without an order has nothing to do.
    eventually(has_ended(waiting), "the spare runner stays")
    assert parent(working) == server
    assert [entry.pid for entry in Registry(config.parent / "run").live()] == [working]
    os.kill(working, signal.SIGKILL)
    eventually(has_ended(server), "the server stays")


_RANDOM = """
import ctypes, os, random, socket, ssl, sys, tempfile, uuid
from pathlib import Path
from workers.hardening import _KEYCTL
from workers.runner import main
from workers.runner.fork_server import ForkServer, load_runner
run = load_runner("scripted")
def values():
    session = ctypes.CDLL(None).syscall(_KEYCTL[os.uname().machine], 0, -3, 1)
    name = next(tempfile._get_candidate_names())
    return random.random(), ssl.RAND_bytes(8).hex(), uuid.uuid4().hex, name, session
# All generators have a state before the fork.
values()
main.read_order = lambda: print(*values(), flush=True)
ForkServer(socket.socket(fileno=int(sys.argv[1])), lambda: run(Path(sys.argv[2]))).serve()
"""


def test_runners_have_their_own_random_values_and_keyring(config: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-c", _RANDOM, str(theirs.fileno()), str(config)]
    with theirs:
        forker = subprocess.Popen(command, cwd=CHECKOUT, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True)
    with ours, forker, Path(os.devnull).open("r+b") as nothing:
        for _ in range(2):
            socket.send_fds(ours, [b"start"], [nothing.fileno(), nothing.fileno()])
        assert forker.stdout is not None
        first, second = (forker.stdout.readline().split() for _ in range(2))
        ours.close()
        assert forker.wait(END_S) == 0
    assert len(first) == len(second) == 5
    assert not set(first) & set(second)


_IMPORTS = """
import sys
from pathlib import Path
from workers.runner import main
from workers.runner.fork_server import load_runner
run = load_runner(sys.argv[1])
before = set(sys.modules)
main.read_order = lambda: {"job_id": sys.argv[3], "attempt": 1, "slot": 0}
run(Path(sys.argv[2]))
print(*set(sys.modules) - before)
"""


def test_a_runner_imports_nothing_itself_until_its_claim(tmp_path: Path, control: ControlStandIn) -> None:
    config = config_file(tmp_path, control_url=control.url)
    command = [sys.executable, "-c", _IMPORTS, "claude_code", str(config), job_named("imports")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=True)
    assert control.claimed == [job_named("imports")]
    assert done.stdout.split() == []


@pytest.mark.needs("root")
def test_the_server_holds_no_key(server: ForkServerClient) -> None:
    runner = server.spawn()
    eventually(lambda: holds(runner.pid, KEY), "the runner does not read its configuration")
    assert not holds(parent(runner.pid), KEY)
    assert end(runner) == 0


def holds(pid: int, text: str) -> bool:
    """Tell whether the writable memory of a process contains a text."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            if match := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line):
                first, last = (int(number, 16) for number in match.groups())
                memory.seek(first)
                if text.encode() in memory.read(last - first):
                    return True
    return False
