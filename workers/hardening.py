"""What a process that holds a key does for itself."""

from __future__ import annotations

import ctypes
from typing import Final

# linux/prctl.h
_PR_SET_DUMPABLE: Final = 4


def keep_memory_private() -> None:
    """Let nobody else of the same user read this process's memory or environment, and leave no core file.

    It ends with the next exec, so it does not hold for what this process starts.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
