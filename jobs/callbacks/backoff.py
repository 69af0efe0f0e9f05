"""Schedule of repeated callback deliveries. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Final

# Short pauses after the first attempts, then longer ones, until a day has passed.
_PAUSES_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14400)
GIVE_UP_AFTER_S: Final = 24 * 3600
# The longest pause of the schedule.
MAX_RETRY_AFTER_S: Final = _PAUSES_S[-1]
_GONE: Final = 410
# Other statuses give Retry-After no meaning for a repeated request.
_MAY_ASK: Final = frozenset({429, 503})
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


def retry_after_s(status: int, header: str | None, now: datetime) -> float | None:
    """Return the pause that an endpoint asks for (RFC 9110, section 10.2.3); None if it asks for none.

    Args:
        status: of the answer.
        header: ``Retry-After``, as seconds or as a date; None if it is absent.
        now: the current time.
    """
    if status not in _MAY_ASK or header is None:
        return None
    if _SECONDS.fullmatch(header.strip()):
        return float(header)
    try:
        then = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        # The parser raises each of these for some malformed dates.
        return None
    # A date without a zone has no meaning here; the standard requires GMT.
    return max(0.0, (then - now).total_seconds()) if then.tzinfo else None


def is_taken(status: int) -> bool:
    """Tell whether an answer accepts the callback. A redirect does not, because redirects are not followed."""
    return 200 <= status < 300


def is_gone(status: int) -> bool:
    """Tell whether the endpoint wants no more callbacks (https://www.standardwebhooks.com: 410 Gone)."""
    return status == _GONE


def next_pause_s(tries: int, age_s: float, jitter: float, retry_after_s: float | None = None) -> float | None:
    """Return the seconds until the next delivery; None when there is none.

    Args:
        tries: number of deliveries so far, at least one.
        age_s: seconds since the callback was created.
        jitter: from 0 to 1; spreads simultaneous failures over a fifth of the pause.
        retry_after_s: shortest pause that the endpoint asks for; None if it asks for none.
    """
    planned_s = _PAUSES_S[min(tries, len(_PAUSES_S)) - 1]
    # An endpoint may only ask for a longer pause, and not for one of days.
    asked_s = min(retry_after_s or 0, MAX_RETRY_AFTER_S)
    pause_s = max(planned_s, asked_s) * (1 + jitter / 5)
    return pause_s if age_s + pause_s <= GIVE_UP_AFTER_S else None
