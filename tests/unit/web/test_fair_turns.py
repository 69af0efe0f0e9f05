"""Order of calls, and refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from myctobot.web.call_limits import Account, AccountLimits, CallSource
from myctobot.web.fair_turns import Bound, Call, FairTurns

KEY = AccountLimits("key", per_minute=600, concurrent=2, waiting=3, streams=2, held_bytes=100)
TENANT = AccountLimits("tenant", per_minute=900, concurrent=3, waiting=6, streams=3, held_bytes=150)


def source(tenant: str, key: str = "1", limits: AccountLimits = KEY) -> CallSource:
    return CallSource(Account(f"key:{tenant}:{key}", limits), Account(f"tenant:{tenant}", TENANT))


class Log:
    """Calls in the order of their turns."""

    def __init__(self, concurrent: int) -> None:
        self.turns, self.names, self.calls = FairTurns(concurrent), list[str](), dict[str, Call]()

    def come(self, name: str, where: CallSource) -> None:
        call = self.calls[name] = Call(where, lambda: self.names.append(name))
        assert self.turns.arrive(call, 0) is None
        self.turns.request_turn(call)

    def end(self, name: str) -> None:
        self.turns.leave(self.calls[name])


def test_tenants_take_turns() -> None:
    log = Log(1)
    for number in range(4):
        log.come(f"a{number}", source("a"))
    log.come("b", source("b"))
    for name in ("a0", "a1", "b", "a2"):
        log.end(name)
    assert log.names == ["a0", "a1", "b", "a2", "a3"]


def test_the_keys_of_a_tenant_take_turns() -> None:
    log = Log(1)
    for name, key in (("a0", "1"), ("a1", "1"), ("a2", "1"), ("b", "2")):
        log.come(name, source("a", key))
    for name in ("a0", "a1", "b"):
        log.end(name)
    assert log.names == ["a0", "a1", "b", "a2"]


def test_a_key_and_a_tenant_have_a_share() -> None:
    log = Log(10)
    for name, key in (("a0", "1"), ("a1", "1"), ("a2", "1"), ("b0", "2"), ("b1", "2")):
        log.come(name, source("a", key))
    assert log.names == ["a0", "a1", "b0"]
    log.end("b0")
    assert log.names[3:] == ["b1"]


def test_a_call_that_gives_up_gets_no_turn() -> None:
    log = Log(1)
    for name in ("a0", "a1", "a2"):
        log.come(name, source("a"))
    log.end("a1")
    log.end("a0")
    assert log.names == ["a0", "a2"]


def test_a_turn_ends_once() -> None:
    log = Log(1)
    log.come("a", source("a"))
    log.turns.end_turn(log.calls["a"])
    log.end("a")
    for name in ("b0", "b1"):
        log.come(name, source("b"))
    assert log.names == ["a", "b0"]


def refused(turns: FairTurns, where: CallSource, now: float = 0, *, is_stream: bool = False) -> Bound | None:
    refusal = turns.arrive(Call(where, lambda: None, is_stream), now)
    return refusal.bound if refusal else None


@pytest.mark.parametrize(("is_stream", "counted", "bound"), [(False, 5, Bound.CALLS), (True, 2, Bound.STREAMS)])
def test_a_key_has_so_many_calls_and_streams(is_stream: bool, counted: int, bound: Bound) -> None:
    turns = FairTurns(10)
    answers = [refused(turns, source("a"), is_stream=is_stream) for _ in range(counted + 1)]
    assert answers == [None] * counted + [bound]
    assert refused(turns, source("b"), is_stream=is_stream) is None
    # Streams and calls count separately.
    assert refused(turns, source("a"), is_stream=not is_stream) is None


def test_calls_in_a_minute() -> None:
    turns, where = FairTurns(10), source("a", limits=replace(KEY, per_minute=2))
    for _ in range(2):
        call = Call(where, lambda: None)
        assert turns.arrive(call, 0) is None
        turns.leave(call)
    refusal = turns.arrive(Call(where, lambda: None), 0)
    assert refusal is not None
    assert (refusal.bound, refusal.limits.name, refusal.retry_after_s) == (Bound.PER_MINUTE, "key", 30)
    assert refused(turns, where, now=30) is None


def test_bodies_and_unread_responses_are_bounded() -> None:
    turns, call = FairTurns(10), Call(source("a"), lambda: None)
    turns.arrive(call, 0)
    turns.hold(call, 101)
    assert refused(turns, source("a")) is Bound.BYTES
    assert refused(turns, source("a", "2")) is None
    turns.leave(call)
    assert refused(turns, source("a")) is None


def test_quotas_name_each_account_once() -> None:
    turns, alone = FairTurns(10), CallSource(Account("user:1", KEY), Account("alone:user:1", KEY))
    assert [quota.limits.name for quota in turns.quotas(source("a"), 0)] == ["key", "tenant"]
    assert [quota.limits.name for quota in turns.quotas(alone, 0)] == ["key"]


def test_idle_accounts_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("myctobot.web.fair_turns._MAX_IDLE", 10)
    turns = FairTurns(10)
    busy = Call(source("busy"), lambda: None)
    turns.arrive(busy, 0)
    for number in range(1000):
        call = Call(source(str(number)), lambda: None)
        assert turns.arrive(call, number * 61.0) is None
        turns.leave(call)
        assert len(turns._usages) <= 30
    turns.leave(busy)
