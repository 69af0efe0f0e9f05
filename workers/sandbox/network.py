"""Network namespace of a job: its own loopback, and listeners through which the runner forwards to single addresses.

A socket stays in the namespace in which it was made. So the runner enters the namespace in a short-lived child process,
makes the listeners there and keeps them. They are the only ways out, and no process in the sandbox has to forward.

A server with a direct address has the same address inside: the runner adds it to the loopback interface. So programs
use it as everywhere else, and every other port of that address is closed.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import warnings
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
BACKLOG: Final = 128
# linux/in.h and linux/in6.h: bind to an address that does not exist yet, because bubblewrap sets up the loopback at the
# same time.
_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78
# linux/rtnetlink.h, linux/netlink.h and linux/if_addr.h
_RTM_NEWADDR: Final = 20
_NLM_F_REQUEST: Final = 0x1
_NLM_F_ACK: Final = 0x4
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_HEADER_BYTES: Final = 16
# linux/sched.h and linux/nsfs.h
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWUSER: Final = 0x10000000
_NS_GET_USERNS: Final = 0xB701
_MAX_ERROR: Final = 500
_TIMEOUT_S: Final = 10
_libc = ctypes.CDLL(None, use_errno=True)


def listen_inside(pid: int, addresses: Sequence[tuple[str, int]]) -> list[socket.socket]:
    """Listen on the loopback interface of a process's network namespace.

    Args:
        pid: a process in the namespace.
        addresses: the address and the port of each listener; the interface gets the addresses that it lacks.

    Raises:
        OSError: the namespace cannot be entered, an address cannot be added, or a port is in use there.
    """
    if not addresses:
        return []
    ours, theirs = socket.socketpair()
    with ours:
        with warnings.catch_warnings():
            # Python warns of forks in a process with threads. This child only makes system calls and ends.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _serve_parent(theirs, pid, addresses)
        theirs.close()
        ours.settimeout(_TIMEOUT_S)
        try:
            message, descriptors, _, _ = socket.recv_fds(ours, _MAX_ERROR, len(addresses))
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    if len(listeners) != len(addresses):
        for listener in listeners:
            listener.close()
        raise OSError(f"the job's network cannot be entered: {message.decode(errors='replace') or 'no reason'}")
    return listeners


def _serve_parent(parent: socket.socket, pid: int, addresses: Sequence[tuple[str, int]]) -> None:
    """Make the listeners in this child process, send them to the parent and end."""
    try:
        _enter(pid)
        for address in dict.fromkeys(address for address, _ in addresses):
            if not ip_address(address).is_loopback:
                _add_address(address)
        listeners = [_listen(address, port) for address, port in addresses]
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


def _add_address(address: str) -> None:
    """Add an address to the loopback interface of this process's network namespace."""
    ip = ip_address(address)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    attribute = struct.pack("=HH", 4 + len(ip.packed), _IFA_LOCAL) + ip.packed
    attribute += struct.pack("=HH", 4 + len(ip.packed), _IFA_ADDRESS) + ip.packed
    # struct ifaddrmsg: family, length of the prefix, flags, scope, interface.
    body = struct.pack("=BBBBI", family, ip.max_prefixlen, 0, 0, socket.if_nametoindex("lo")) + attribute
    flags = _NLM_F_REQUEST | _NLM_F_ACK
    header = struct.pack("=IHHII", _HEADER_BYTES + len(body), _RTM_NEWADDR, flags, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(header + body)
        # The kernel answers with struct nlmsgerr, which begins with the negative number of the error, or 0.
        (error,) = struct.unpack_from("=i", kernel.recv(4096), _HEADER_BYTES)
    if error:
        raise OSError(-error, f"{address} cannot be added: {os.strerror(-error)}")


def _listen(address: str, port: int) -> socket.socket:
    is_six = ":" in address
    listener = socket.socket(socket.AF_INET6 if is_six else socket.AF_INET, socket.SOCK_STREAM)
    if is_six:
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(BACKLOG)
    return listener
