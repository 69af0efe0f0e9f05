"""Outages of the control plane, during which it cannot receive calls of shards and runners; pure.

An outage does not count as silence of a shard: its silence starts at the end of the outage, and within one lease of
that end no attempt is declared lost. Three events count as an outage: the start of this process, a gap in its checks
(PostgreSQL or the broker was down), and a web process that does not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# Checks run every second or two. A longer gap means that PostgreSQL or the broker was down.
MAX_GAP = timedelta(seconds=10)


@dataclass(frozen=True)
class OutageTracker:
    """State after a check.

    Attributes:
        since: start of the time without an outage, up to ``last``.
        last: time of the latest check, by the database's clock.
    """

    since: datetime
    last: datetime

    @classmethod
    def after_check(cls, before: OutageTracker | None, now: datetime, *, web_answers: bool) -> OutageTracker:
        """Return the state after a check at ``now``.

        Args:
            before: the state before, None at the first check.
            now: the database's clock.
            web_answers: the web process answered, or heartbeats prove that it does.
        """
        broken = before is None or now - before.last > MAX_GAP or not web_answers
        return cls(now if before is None or broken else before.since, now)
