"""Fork server: imports once what runners need, and forks a runner for each request of its worker.

``workers.worker.runner_process`` starts it as ``python -m workers.runner.fork_server SOCKET EXECUTOR CONFIG``. A
request has two descriptors: the runner's standard input and the write end of a pipe for the exit code. The answer is
the runner's pid with a descriptor of the process, or a negative number of an error. When the worker is gone, the server
ends with its last runner.

The server reads no configuration, so it holds no key. Runners share its memory layout and its seed of hashes. Other
random values differ: Python and OpenSSL seed their generators again after a fork, and our tokens are from the kernel.
"""

from __future__ import annotations

import errno
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from myctobot.contract import loading
from workers.hardening import keep_memory_private

# Bytes of a request or an answer.
MESSAGE_SIZE = 64
# Modules that httpx and anyio import at their first use, which is in the runner.
_IMPORTED_LATE = (
    "anyio._backends._asyncio",
    "certifi",
    "httpcore",
    "httpcore._async.http11",
    "httpcore._backends.auto",
)


@dataclass(frozen=True)
class _Child:
    """Runner that was forked, with the write end of the pipe for its exit code."""

    pid: int
    status: int


class ForkServer:
    """Loop that forks runners and reaps them. It has no thread, because a forked copy of a held lock stays locked.

    Args:
        connection: socket to the worker.
        run: function of a runner, which returns its exit code.
    """

    def __init__(self, connection: socket.socket, run: Callable[[], int]) -> None:
        self._connection, self._run = connection, run
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()

    def serve(self) -> None:
        """Answer requests until the worker is gone and the last runner has ended."""
        listening = self._connection.fileno()
        self._poll.register(listening, select.POLLIN)
        self._answer(os.getpid(), os.pidfd_open(os.getpid()))
        is_open = True
        while is_open or self._children:
            for descriptor, _ in self._poll.poll():
                if descriptor != listening:
                    self._reap(descriptor)
                elif not self._serve_request():
                    is_open = False
                    self._poll.unregister(listening)
                    self._connection.close()

    def _serve_request(self) -> bool:
        """Fork a runner; return False if the worker is gone."""
        # Without MSG_CMSG_CLOEXEC, git and the agent would inherit these descriptors.
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            message, descriptors, _, _ = socket.recv_fds(self._connection, MESSAGE_SIZE, 2, flags)
        except ConnectionError:
            return False
        if not message:
            return False
        try:
            # The kernel leaves out descriptors for which this process has no more room.
            if len(descriptors) != 2:
                raise OSError(errno.EMFILE, "descriptors are missing")
            stdin, status = descriptors
            pid, handle = self._fork(stdin)
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._answer(-(error.errno or errno.EIO))
            return True
        self._children[handle] = _Child(pid, status)
        self._poll.register(handle, select.POLLIN)
        # The worker must find a broken pipe as soon as the runner has ended, so close it before the answer.
        os.close(stdin)
        self._answer(pid, handle)
        return True

    def _fork(self, stdin: int) -> tuple[int, int]:
        """Return the pid and a descriptor of a new runner."""
        pid = os.fork()
        if pid == 0:
            self._become_runner(stdin)
        # This process has not reaped the child, so the pid is still the child's.
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        return pid, handle

    def _become_runner(self, stdin: int) -> NoReturn:
        """Run one attempt in this new process, which never returns into the loop of its parent."""
        code = 1
        try:
            # In its own session, the runner gets no signals of the worker's group and survives the worker's end.
            os.setsid()
            os.dup2(stdin, 0)
            # The other descriptors are the server's; its socket must not reach an agent.
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            code = self._run()
        except BaseException:  # noqa: BLE001  # any error ends this process, and only this one
            traceback.print_exc()
        finally:
            os._exit(code)

    def _answer(self, number: int, *descriptors: int) -> None:
        # Without a worker, the runner's standard input ends, and so does the runner.
        with suppress(ConnectionError):
            socket.send_fds(self._connection, [str(number).encode()], descriptors)

    def _reap(self, handle: int) -> None:
        child = self._children.pop(handle)
        self._poll.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(child.pid, 0)
        with suppress(BrokenPipeError):
            os.write(child.status, str(os.waitstatus_to_exitcode(status)).encode())
        os.close(child.status)


def detach() -> None:
    """Continue in a child process with its own session, so that no worker has to reap it.

    A worker that starts again in the same process knows nothing of its earlier children.
    """
    if os.fork() != 0:
        os._exit(0)
    os.setsid()


def load_runner(executor: str) -> Callable[[Path], int]:
    """Import what runners need, and return their main function.

    Later garbage collections leave their objects out, because its marks would copy their pages in each runner.
    """
    loading.begin()
    from workers.runner.main import main as run

    for name in (f"workers.executors.{executor}", *_IMPORTED_LATE):
        importlib.import_module(name)
    loading.finish()
    return run


def main() -> None:
    """Detach, import and serve; detach first, because the worker waits for it."""
    detach()
    # An agent that runs as the same user could otherwise take the socket. Runners inherit this.
    keep_memory_private()
    number, executor, config_path = sys.argv[1:]
    run = load_runner(executor)
    connection = socket.socket(fileno=int(number))
    # It was inherited through an exec. No later program may have it.
    connection.set_inheritable(False)
    ForkServer(connection, partial(run, Path(config_path))).serve()


if __name__ == "__main__":
    main()
