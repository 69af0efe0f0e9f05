"""Short lists of names for error messages, because a caller decides on their number and length."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

MAX_NAMES = 20


def shortlist(names: Iterable[str]) -> tuple[list[str], int]:
    """Return the first names in alphabetical order, and the number of the others."""
    every = list(names)
    named = heapq.nsmallest(MAX_NAMES, every)
    return named, len(every) - len(named)
