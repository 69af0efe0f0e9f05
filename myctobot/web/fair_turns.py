"""Turns of the calls of one process: it counts the calls of each account and decides which one is next; pure.

Groups, such as tenants, take turns, and so do the members of a group, such as its keys. Many waiting calls of one
group therefore delay a call of another group by one turn only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from myctobot.web.call_limits import Account, AccountLimits, CallSource, Quota, TokenBucket

# Idle accounts are dropped above this number.
_MAX_IDLE: Final = 10_000


class Bound(Enum):
    """Limit that a call would exceed."""

    PER_MINUTE = auto()
    CALLS = auto()
    STREAMS = auto()
    BYTES = auto()


@dataclass(frozen=True)
class CallRefusal:
    """Reason for refusing a call.

    Attributes:
        limits: limits of the account that has reached its bound.
        retry_after_s: whole seconds after which another try makes sense; at least 1.
    """

    bound: Bound
    limits: AccountLimits
    retry_after_s: int = 1


@dataclass(eq=False)
class Call:
    """One call from its arrival to its end.

    Attributes:
        source: its accounts.
        on_turn: called when the call may be carried out.
        is_stream: the call counts as an open stream, not as one of the concurrent and waiting calls.
    """

    source: CallSource
    on_turn: Callable[[], None]
    is_stream: bool = False
    is_waiting: bool = field(default=False, init=False)
    has_turn: bool = field(default=False, init=False)
    held_bytes: int = field(default=0, init=False)


class _Usage:
    """Calls of one account."""

    __slots__ = ("bucket", "calls", "held_bytes", "limits", "running", "streams")

    def __init__(self, limits: AccountLimits, now: float) -> None:
        self.limits, self.bucket = limits, TokenBucket(limits.per_minute, now)
        self.calls = self.running = self.streams = self.held_bytes = 0

    def refusal(self, call: Call, now: float) -> CallRefusal | None:
        limits = self.limits
        if self.bucket.remaining(now) < 1:
            return CallRefusal(Bound.PER_MINUTE, limits, max(1, self.bucket.seconds_until(1, now)))
        if call.is_stream and self.streams >= limits.streams:
            return CallRefusal(Bound.STREAMS, limits)
        if not call.is_stream and self.calls >= limits.concurrent + limits.waiting:
            return CallRefusal(Bound.CALLS, limits)
        if self.held_bytes > limits.held_bytes:
            return CallRefusal(Bound.BYTES, limits)
        return None

    def is_idle(self, now: float) -> bool:
        in_use = self.calls or self.running or self.streams or self.held_bytes
        return not in_use and self.bucket.remaining(now) >= self.limits.per_minute


class FairTurns:
    """Turns and counts of the calls of one process.

    Args:
        concurrent: calls that are carried out at the same time.
    """

    def __init__(self, concurrent: int) -> None:
        self._concurrent, self._running = concurrent, 0
        self._usages: dict[str, _Usage] = {}
        self._max_usages = _MAX_IDLE
        # Waiting calls by group and member. Each dict is in the order of the next turns.
        self._waiting: dict[str, dict[str, deque[Call]]] = {}

    def arrive(self, call: Call, now: float) -> CallRefusal | None:
        """Count a new call, or return the reason for refusing it. Each counted call needs one ``leave``.

        Args:
            now: monotonic seconds.
        """
        usages = [self._usage(account, now) for account in call.source]
        for usage in usages:
            if refusal := usage.refusal(call, now):
                return refusal
        for usage in usages:
            usage.streams += call.is_stream
            usage.calls += not call.is_stream
            usage.bucket.take()
        return None

    def hold(self, call: Call, size: int) -> None:
        """Count bytes that are in memory until the call leaves."""
        call.held_bytes += size
        for account in call.source:
            self._usages[account.id].held_bytes += size

    def request_turn(self, call: Call) -> None:
        """Let a call wait for its turn, which may come at once."""
        call.is_waiting = True
        member, group = call.source
        self._waiting.setdefault(group.id, {}).setdefault(member.id, deque()).append(call)
        self._give_turns()

    def end_turn(self, call: Call) -> None:
        """Give the turn of a call to the next one. Does nothing if the call has none."""
        if call.has_turn:
            call.has_turn = False
            self._count_running(call, -1)
            self._give_turns()

    def leave(self, call: Call) -> None:
        """Stop counting a call that was carried out, gave up, or was refused later."""
        if call.is_waiting:
            self._withdraw(call)
        self.end_turn(call)
        for account in call.source:
            usage = self._usages[account.id]
            usage.streams -= call.is_stream
            usage.calls -= not call.is_stream
            usage.held_bytes -= call.held_bytes
        call.held_bytes = 0

    def quotas(self, source: CallSource, now: float) -> list[Quota]:
        """Return the remaining calls of the accounts of a call that are its caller's own."""
        # A user without a tenant has a group of its own with the same limits.
        accounts = {account.limits.name: account for account in reversed(source) if account.limits.is_own}
        usages = [self._usage(account, now) for account in reversed(accounts.values())]
        return [Quota(each.limits, int(each.bucket.remaining(now)), each.bucket.reset_s(now)) for each in usages]

    def _give_turns(self) -> None:
        while self._running < self._concurrent and (call := self._next()) is not None:
            call.is_waiting, call.has_turn = False, True
            self._count_running(call, 1)
            call.on_turn()

    def _next(self) -> Call | None:
        """Remove and return the next call that no limit delays, and move its group and member to the end."""
        for group_id, members in self._waiting.items():
            if self._is_busy(group_id):
                continue
            for member_id, calls in members.items():
                if self._is_busy(member_id):
                    continue
                call = calls.popleft()
                del members[member_id], self._waiting[group_id]
                if calls:
                    members[member_id] = calls
                if members:
                    self._waiting[group_id] = members
                return call
        return None

    def _withdraw(self, call: Call) -> None:
        call.is_waiting = False
        member, group = call.source
        members = self._waiting[group.id]
        members[member.id].remove(call)
        if not members[member.id]:
            del members[member.id]
        if not members:
            del self._waiting[group.id]

    def _is_busy(self, account_id: str) -> bool:
        usage = self._usages[account_id]
        return usage.running >= usage.limits.concurrent

    def _count_running(self, call: Call, change: int) -> None:
        self._running += change
        for account in call.source:
            self._usages[account.id].running += change

    def _usage(self, account: Account, now: float) -> _Usage:
        found = self._usages.get(account.id)
        if found is None:
            if len(self._usages) >= self._max_usages:
                self._drop_idle(now)
            found = self._usages[account.id] = _Usage(account.limits, now)
        return found

    def _drop_idle(self, now: float) -> None:
        self._usages = {key: usage for key, usage in self._usages.items() if not usage.is_idle(now)}
        # Doubling keeps the average cost of a new account constant.
        self._max_usages = max(_MAX_IDLE, 2 * len(self._usages))
