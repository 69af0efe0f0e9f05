"""Refusals of the broker, by which a worker cannot take jobs, for the heartbeats of its shard."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from myctobot.contract.shards import BrokerProblem

# A shard's queues may change before its worker knows, and a broker that restarts gets its users again within seconds.
REPORT_AFTER_S: Final = 60.0


class BrokerRefusals:
    """Present refusals of the broker. The worker's loop changes them, and the heartbeat's thread reads them.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: dict[BrokerProblem, float] = {}

    def note(self, problem: BrokerProblem) -> bool:
        """Note a refusal. Return true if it is the first since the broker accepted the same."""
        is_new = problem not in self._since
        self._since.setdefault(problem, self._clock())
        return is_new

    def end(self, problem: BrokerProblem) -> None:
        """Note that the broker accepted what it had refused."""
        self._since.pop(problem, None)

    def lasting(self) -> BrokerProblem | None:
        """Return a refusal that is old enough to be reported; without a login nothing is known about queues."""
        now = self._clock()
        for problem in (BrokerProblem.LOGIN, BrokerProblem.QUEUES):
            since = self._since.get(problem)
            if since is not None and now - since >= REPORT_AFTER_S:
                return problem
        return None


# Of this process; the heartbeat reports them.
REFUSALS: Final = BrokerRefusals()
