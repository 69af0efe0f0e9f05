"""Outages of the control plane, during which it cannot receive calls of shards and runners; pure.

An outage does not count as silence of a shard: its silence starts at the end of the outage, and within one lease of
that end no attempt is declared lost. Two events count as an outage: a web process that does not answer, and a gap in
the checks (PostgreSQL, the broker or the control worker was down) in which no shard is known to have been heard.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

# Checks run every second or two. A longer gap means that PostgreSQL, the broker or the control worker was down.
MAX_GAP = timedelta(seconds=10)


@dataclass(frozen=True)
class PastOutage:
    """Outage that is over: its start, and the time of the check that saw its end."""

    start: datetime
    end: datetime

    @property
    def duration(self) -> timedelta:
        return self.end - self.start


@dataclass(frozen=True)
class OutageTracker:
    """State after a check.

    Attributes:
        since: start of the time without an outage, up to ``last``.
        last: time of the latest check, by the database's clock.
        unreachable_since: start of the present outage; None while the web process answers.
    """

    since: datetime
    last: datetime
    unreachable_since: datetime | None = None

    def has_gap(self, now: datetime) -> bool:
        """Tell whether so much time has passed since the latest check that there may have been an outage."""
        return now - self.last > MAX_GAP

    def gap_until(self, now: datetime) -> PastOutage | None:
        """Return the time before ``now`` in which no check ran, if it is so long that it may have been an outage."""
        return PastOutage(self.last, now) if self.has_gap(now) else None

    def outage_until(self, now: datetime, *, web_answers: bool, was_heard: bool = False) -> PastOutage | None:
        """Return the outage that a check at ``now`` sees to be over; see ``after_check`` for the arguments."""
        if self.unreachable_since is not None:
            return PastOutage(self.unreachable_since, now) if web_answers else None
        # The web process may start after the checks; then its own outage follows that of the checks.
        return None if was_heard else self.gap_until(now)

    @classmethod
    def after_check(
        cls, before: OutageTracker | None, now: datetime, *, web_answers: bool, was_heard: bool = False
    ) -> OutageTracker:
        """Return the state after a check at ``now``.

        Args:
            before: the state before, None at the first check of an installation.
            now: the database's clock.
            web_answers: the web process answered, or heartbeats prove that it does.
            was_heard: a shard has reported without a silence since the check before, so a gap was no outage.
        """
        if before is None:
            return cls(now, now, None if web_answers else now)
        if not web_answers:
            return cls(now, now, before.unreachable_since or now)
        is_outage = before.has_gap(now) and not was_heard
        return cls(now if is_outage else before.since, max(now, before.last))
