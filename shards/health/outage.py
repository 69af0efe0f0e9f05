"""Since when the control plane has been able to hear its shards and their runners without a break; pure.

Whoever could not be heard has done nothing wrong: within a lease of the end of an outage no attempt is declared
lost, and a shard's silence begins with it. Three things count as an outage: this process began to look, it could not
look for a while (PostgreSQL or the broker was away), or the web process, which takes their calls, did not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# Looks come every second or two; a gap of this much means that something was away.
MAX_GAP = timedelta(seconds=10)


@dataclass(frozen=True)
class Listening:
    """What is known after a look.

    Attributes:
        since: no break between then and ``last``.
        last: when the latest look was, by the database's clock.
    """

    since: datetime
    last: datetime

    @classmethod
    def after_look(cls, before: Listening | None, now: datetime, *, web_answers: bool) -> Listening:
        """Add a look at ``now``.

        Args:
            before: what was known, None at the first look.
            now: the database's clock.
            web_answers: whether the web process answered, or need not be asked.
        """
        broken = before is None or now - before.last > MAX_GAP or not web_answers
        return cls(now if before is None or broken else before.since, now)
