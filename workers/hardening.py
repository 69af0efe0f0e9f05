"""Protection of a process that holds a key."""

from __future__ import annotations

import ctypes
from typing import Final

# linux/prctl.h
_PR_SET_DUMPABLE: Final = 4


def keep_memory_private() -> None:
    """Prevent other processes of the same user from reading this process's memory or environment, and core files.

    The protection ends with the next exec, so it does not cover programs that this process starts.

    Raises:
        OSError: the kernel refused.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "this process's memory cannot be protected")
