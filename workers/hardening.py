"""Protection of a process that holds a key."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

# linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
# Number of keyctl, which has no function in glibc, and its operation; see linux/keyctl.h.
_KEYCTL: Final = {"x86_64": 250, "aarch64": 219}
_JOIN_SESSION_KEYRING: Final = 1


def keep_memory_private() -> None:
    """Prevent other processes of the same user from reading this process's memory or environment, and core files.

    The protection ends with the next exec, so it does not cover programs that this process starts.

    Raises:
        OSError: the kernel refused.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process's memory cannot be protected")


def join_fresh_session_keyring() -> None:
    """Replace the session keyring of this process and its later children by an empty one.

    Raises:
        OSError: the kernel refused.
    """
    number = _KEYCTL.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, "keyrings are not supported on this machine")
    if ctypes.CDLL(None, use_errno=True).syscall(number, _JOIN_SESSION_KEYRING, None) >= 0:
        return
    # Where a container has no keyrings, its agents have none either.
    if ctypes.get_errno() not in (errno.ENOSYS, errno.EPERM):
        raise OSError(ctypes.get_errno(), "no session keyring can be created")
