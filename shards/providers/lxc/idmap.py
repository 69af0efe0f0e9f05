"""Mounts of a folder with other owners, by the kernel's mapped mounts (mount_setattr(2), Linux 5.12).

One read-only template can therefore serve every container, although each has its own user ids: nothing is copied, and
no owner changes on disk. The ``mount`` program supports this since util-linux 2.39, so this module uses system calls.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import ENVIRONMENT

# Numbers of system calls, which are the same on every architecture for calls this new.
_OPEN_TREE: Final = 428
_MOVE_MOUNT: Final = 429
_MOUNT_SETATTR: Final = 442

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_ATTR_RDONLY: Final = 0x1
_ATTR_NODEV: Final = 0x4
_ATTR_IDMAP: Final = 0x100000
_WAIT_S: Final = 5

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def bind_mapped(source: Path, target: Path, first_id: int, count: int) -> None:
    """Mount ``source`` at ``target``, read-only, and map owner n to ``first_id`` + n.

    Raises:
        ProviderError: the kernel refuses, for example because the file system does not support mapping.
    """
    tree = _call(_OPEN_TREE, _AT_FDCWD, str(source), _OPEN_TREE_CLONE | os.O_CLOEXEC, doing=f"open {source}")
    try:
        with _user_namespace(first_id, count) as namespace:
            attributes = _Attributes(attr_set=_ATTR_RDONLY | _ATTR_NODEV | _ATTR_IDMAP, userns_fd=namespace)
            size = ctypes.sizeof(attributes)
            _call(_MOUNT_SETATTR, tree, "", _AT_EMPTY_PATH, attributes, size, doing=f"map the owners of {source}")
        doing = f"mount {source} at {target}"
        _call(_MOVE_MOUNT, tree, "", _AT_FDCWD, str(target), _MOVE_MOUNT_F_EMPTY_PATH, doing=doing)
    finally:
        os.close(tree)


@contextmanager
def _user_namespace(first_id: int, count: int) -> Iterator[int]:
    """Yield a file descriptor of a user namespace with this map, created by a short-lived process in it."""
    with subprocess.Popen(
        ["unshare", "--user", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=ENVIRONMENT, bufsize=0
    ) as child:
        assert child.stdin is not None  # noqa: S101  # both are pipes
        assert child.stdout is not None  # noqa: S101  # both are pipes
        try:
            # When it echoes a line, it runs in the new namespace.
            child.stdin.write(b"\n")
            if child.stdout.read(1) != b"\n":
                raise ProviderError("A user namespace cannot be created on this host.")
            line = f"0 {first_id} {count}\n"
            for kind in ("uid_map", "gid_map"):
                Path(f"/proc/{child.pid}/{kind}").write_text(line)
            namespace = os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            child.stdin.close()
            child.wait(_WAIT_S)
    try:
        yield namespace
    finally:
        os.close(namespace)


def _call(number: int, *arguments: int | str | _Attributes, doing: str) -> int:
    def as_c(value: int | str | _Attributes) -> object:
        if isinstance(value, str):
            return ctypes.c_char_p(os.fsencode(value))
        return ctypes.byref(value) if isinstance(value, _Attributes) else ctypes.c_long(value)

    result = int(_libc.syscall(ctypes.c_long(number), *map(as_c, arguments)))
    if result < 0:
        raise ProviderError(f"The kernel did not {doing}: {os.strerror(ctypes.get_errno())}.")
    return result
