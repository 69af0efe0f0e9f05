"""When a callback that was not taken is sent again. Pure."""

from __future__ import annotations

from typing import Final

# After the first tries soon, then ever more rarely, until a day is over.
_PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
GIVE_UP_AFTER_S: Final = 24 * 3600
_GONE: Final = 410


def is_taken(status: int) -> bool:
    """Whether an answer means that the callback was taken. A redirect is none: it is not followed."""
    return 200 <= status < 300


def is_refused_for_good(status: int) -> bool:
    """Whether the endpoint says that it wants no more (https://www.standardwebhooks.com: 410 Gone)."""
    return status == _GONE


def next_pause_s(tries: int, age_s: float, jitter: float) -> float | None:
    """Seconds until the next try; None when there is none.

    Args:
        tries: that have been made, at least one.
        age_s: since the callback was made.
        jitter: from 0 to 1; spreads those that failed together over a fifth of the pause.
    """
    pause_s = _PAUSES_S[min(tries, len(_PAUSES_S)) - 1] * (1 + jitter / 5)
    return pause_s if age_s + pause_s <= GIVE_UP_AFTER_S else None
