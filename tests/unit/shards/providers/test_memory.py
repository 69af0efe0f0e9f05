"""Functions of the provider in memory for other tests."""

from __future__ import annotations

from datetime import timedelta

import pytest

from shards.providers.base import ContainerSpec, ContainerState, NullJournal
from shards.providers.errors import OutOfRoom
from shards.providers.memory import MemoryProvider

SPEC = ContainerSpec("alpha", environment={"A": "1"})


def test_it_fails_once_on_demand() -> None:
    maker = MemoryProvider()
    ref = maker.create(SPEC, NullJournal())
    for reason in ("first", "second"):
        maker.fail_next("start", OutOfRoom(reason))
    for reason in ("first", "second"):
        with pytest.raises(OutOfRoom, match=reason):
            maker.start(ref, NullJournal())
    maker.start(ref, NullJournal())
    assert maker.status(ref).state is ContainerState.RUNNING


def test_a_create_that_fails_makes_nothing() -> None:
    maker = MemoryProvider()
    maker.fail_next("create", OutOfRoom())
    with pytest.raises(OutOfRoom):
        maker.create(SPEC, NullJournal())
    assert maker.list() == []


def test_things_may_happen_to_a_container() -> None:
    maker = MemoryProvider()
    ref = maker.create(SPEC, NullJournal())
    maker.set_state(ref, ContainerState.OTHER)
    (before,) = maker.list()
    maker.age(timedelta(hours=1))
    (after,) = maker.list()
    assert (before.state, before.created_at and before.created_at - timedelta(hours=1)) == (
        ContainerState.OTHER,
        after.created_at,
    )
    maker.forget(ref)
    assert maker.status(ref).state is ContainerState.GONE
