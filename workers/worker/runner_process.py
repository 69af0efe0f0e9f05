"""Runners as the worker sees them, and its client of the fork server that starts them."""

from __future__ import annotations

import io
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from workers.runner.fork_server import MESSAGE_SIZE

log = logging.getLogger(__name__)

# Exit code of a runner whose fork server ended first, which alone could read the true one.
UNKNOWN_EXIT = 255
# The server imports in one to two seconds; a busy machine may need much longer.
_START_TIMEOUT_S = 120.0
_ANSWER_TIMEOUT_S = 10.0
_STATUS_TIMEOUT_S = 5.0
# Only these variables of the worker reach a runner, and so an agent.
_ENVIRONMENT = ("PATH", "LANG", "TZ", "TMPDIR", "PYTHONDONTWRITEBYTECODE")


def runner_environment() -> dict[str, str]:
    """Return the environment of a runner, which is built from an allow-list."""
    found = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Fewer arenas use less memory, and a runner has few threads.
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **found}


class RunnerProcess:
    """Process of a runner. Close it after its end.

    Args:
        pid: number of the process; the fork server may reap it at any time.
        handle: descriptor of the process, see pidfd_open(2).
        stdin: write end of its standard input.
        status: read end of the pipe for its exit code.
    """

    def __init__(self, pid: int, handle: int, stdin: int, status: int) -> None:
        self.pid = pid
        self._handle, self._status = io.FileIO(handle), io.FileIO(status)
        self._stdin = io.FileIO(stdin, "w")

    def send(self, order: bytes) -> None:
        """Give the runner its order.

        Raises:
            BrokenPipeError: the runner has ended.
        """
        with self._stdin as stdin:
            stdin.write(order)

    def end_input(self) -> None:
        """End the runner's standard input; without an order, it then exits."""
        self._stdin.close()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the process and all its threads have ended; return False if they have not in time."""
        return _is_readable(self._handle.fileno(), timeout_s)

    def exit_code(self) -> int:
        """Return the exit code of a runner that has ended, as ``subprocess`` has it; it can be read once."""
        text = self._status.read(MESSAGE_SIZE) if _is_readable(self._status.fileno(), _STATUS_TIMEOUT_S) else b""
        return int(text) if text else UNKNOWN_EXIT

    def kill(self) -> None:
        _kill(self._handle.fileno())

    def close(self) -> None:
        for file in (self._stdin, self._status, self._handle):
            file.close()


class ForkServerClient:
    """Client of a fork server, which it starts at the first use and replaces when it fails.

    Args:
        executor: executor of the shard, which the server imports.
        config_path: file of the configuration; runners read it themselves.
    """

    def __init__(self, executor: str, config_path: Path) -> None:
        self._executor, self._config_path = executor, config_path
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._handle: int | None = None

    def spawn(self) -> RunnerProcess:
        """Start a runner, which waits for its order.

        Raises:
            OSError: it cannot be started, also not by a new server.
        """
        with self._lock:
            try:
                return self._request()
            except (ConnectionError, TimeoutError) as error:
                log.warning("the fork server is replaced: %s", error)
                self._kill()
            try:
                return self._request()
            except (ConnectionError, TimeoutError):
                self._kill()
                raise

    def close(self) -> None:
        """Let the server end with its last runner; a later spawn starts another one."""
        with self._lock:
            self._disconnect()

    def _request(self) -> RunnerProcess:
        connection = self._connection or self._start()
        runner_stdin, stdin = os.pipe()
        status, runner_status = os.pipe()
        try:
            socket.send_fds(connection, [b"start"], [runner_stdin, runner_status])
            pid, handle = _receive(connection)
        except OSError:
            os.close(stdin)
            os.close(status)
            raise
        finally:
            os.close(runner_stdin)
            os.close(runner_status)
        return RunnerProcess(pid, handle, stdin, status)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [str(theirs.fileno()), self._executor, str(self._config_path)]
        with theirs:
            self._connection = ours
            try:
                subprocess.run(
                    [sys.executable, "-m", "workers.runner.fork_server", *arguments],
                    stdin=subprocess.DEVNULL,
                    cwd=Path(__file__).resolve().parent.parent.parent,
                    env=runner_environment(),
                    pass_fds=[theirs.fileno()],
                    timeout=_START_TIMEOUT_S,
                    check=True,
                )
            except subprocess.SubprocessError as error:
                raise ConnectionAbortedError(f"it does not start: {error}") from error
        ours.settimeout(_START_TIMEOUT_S)
        _, self._handle = _receive(ours)
        ours.settimeout(_ANSWER_TIMEOUT_S)
        return ours

    def _kill(self) -> None:
        """End a server that failed. Its runners continue, because the kernel gives them another parent."""
        if self._handle is not None:
            _kill(self._handle)
        self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._handle is not None:
            os.close(self._handle)
        self._connection = self._handle = None


def _receive(connection: socket.socket) -> tuple[int, int]:
    """Return the pid and the descriptor of a process from an answer of the server.

    Raises:
        OSError: the server failed, or has ended.
    """
    message, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_SIZE, 1, socket.MSG_CMSG_CLOEXEC)
    if not message:
        raise ConnectionResetError("it has ended")
    number = int(message)
    if number < 0:
        raise OSError(-number, f"no runner can be started: {os.strerror(-number)}")
    if not descriptors:
        raise ConnectionAbortedError("its answer has no descriptor")
    return number, descriptors[0]


def _is_readable(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _kill(handle: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
