"""Network namespace of a job: its own loopback, and listeners through which the runner forwards to single addresses.

A socket stays in the namespace in which it was made. So the runner enters the namespace in a short-lived child process,
makes the listeners there and keeps them. They are the only ways out, and no process in the sandbox has to forward.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 128
# linux/in.h: bind to an address that does not exist yet, because bubblewrap sets up the loopback at the same time.
_IP_FREEBIND: Final = 15
# linux/sched.h and linux/nsfs.h
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWUSER: Final = 0x10000000
_NS_GET_USERNS: Final = 0xB701
_MAX_ERROR: Final = 500
_TIMEOUT_S: Final = 10
_libc = ctypes.CDLL(None, use_errno=True)


def listen_inside(pid: int, ports: Sequence[int]) -> list[socket.socket]:
    """Listen on the loopback of a process's network namespace.

    Args:
        pid: a process in the namespace.
        ports: the port of each listener.

    Raises:
        OSError: the namespace cannot be entered, or a port is in use there.
    """
    if not ports:
        return []
    ours, theirs = socket.socketpair()
    with ours:
        with warnings.catch_warnings():
            # Python warns of forks in a process with threads. This child only makes system calls and ends.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _serve_parent(theirs, pid, ports)
        theirs.close()
        ours.settimeout(_TIMEOUT_S)
        try:
            message, descriptors, _, _ = socket.recv_fds(ours, _MAX_ERROR, len(ports))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if len(listeners) != len(ports):
        for listener in listeners:
            listener.close()
        raise OSError(f"the job's network cannot be entered: {message.decode(errors='replace') or 'no reason'}")
    return listeners


def _serve_parent(parent: socket.socket, pid: int, ports: Sequence[int]) -> None:
    """Make the listeners in this child process, send them to the parent and end."""
    try:
        _enter(pid)
        listeners = [_listen(port) for port in ports]
        socket.send_fds(parent, [b"made"], [listener.fileno() for listener in listeners])
    except BaseException as error:  # noqa: BLE001  # the child must end here after every error
        parent.send(str(error).encode()[:_MAX_ERROR] or b"unknown")
    finally:
        os._exit(0)


def _enter(pid: int) -> None:
    with Path(f"/proc/{pid}/ns/net").open("rb") as network:
        if os.geteuid() != 0:
            # An ordinary user has the rights in the namespace's user namespace, and only there.
            owner = fcntl.ioctl(network.fileno(), _NS_GET_USERNS)
            _set_namespace(owner, _CLONE_NEWUSER)
        _set_namespace(network.fileno(), _CLONE_NEWNET)


def _set_namespace(descriptor: int, kind: int) -> None:
    if _libc.setns(descriptor, kind) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((LOOPBACK, port))
    listener.listen(BACKLOG)
    return listener
