"""Schedule of repeated callback deliveries. Pure."""

from __future__ import annotations

from typing import Final

# Short pauses after the first attempts, then longer ones, until a day has passed.
_PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
GIVE_UP_AFTER_S: Final = 24 * 3600
_GONE: Final = 410


def is_taken(status: int) -> bool:
    """Tell whether an answer accepts the callback. A redirect does not, because redirects are not followed."""
    return 200 <= status < 300


def is_gone(status: int) -> bool:
    """Tell whether the endpoint wants no more callbacks (https://www.standardwebhooks.com: 410 Gone)."""
    return status == _GONE


def next_pause_s(tries: int, age_s: float, jitter: float) -> float | None:
    """Return the seconds until the next delivery; None when there is none.

    Args:
        tries: number of deliveries so far, at least one.
        age_s: seconds since the callback was created.
        jitter: from 0 to 1; spreads simultaneous failures over a fifth of the pause.
    """
    pause_s = _PAUSES_S[min(tries, len(_PAUSES_S)) - 1] * (1 + jitter / 5)
    return pause_s if age_s + pause_s <= GIVE_UP_AFTER_S else None
