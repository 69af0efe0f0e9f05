from __future__ import annotations

from datetime import timedelta
from unittest.mock import patch

import pytest
from django.db.models.functions import Now

from shards.errors import WrongState
from shards.models import Shard, ShardState
from shards.operations.executor import carry_out, sweep
from shards.operations.journal import Abandoned, OperationJournal
from shards.operations.models import Operation, OperationKind, OperationState
from shards.operations.reconciler import reconcile
from shards.operations.requests import request
from shards.providers.base import ContainerState
from shards.providers.errors import ProviderUnreachable
from tests.factories.operations import LivelyProvider, do

pytestmark = pytest.mark.django_db


def left_behind(operation: Operation) -> None:
    """Make an operation look as if its process had been killed."""
    Operation.objects.filter(pk=operation.pk).update(
        state=OperationState.RUNNING, alive_at=Now() - timedelta(minutes=2), started_at=Now() - timedelta(minutes=3)
    )


def test_a_second_message_does_nothing(shard: Shard, maker: LivelyProvider) -> None:
    operation = do(shard, OperationKind.PROVISION)
    carry_out(operation.pk)
    assert len(maker.list()) == 1


def test_a_provision_that_was_left_behind_is_cleaned_up(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    Shard.objects.update(state=ShardState.PROVISIONING)
    left_behind(Operation.objects.get())
    sweep()
    ended, destroy = Operation.objects.order_by("pk")
    assert (ended.state, destroy.kind) == (OperationState.FAILED, OperationKind.DESTROY)
    carry_out(destroy.pk)
    assert maker.list() == []


def test_an_operation_that_is_alive_is_left_alone(shard: Shard) -> None:
    operation = request(shard, OperationKind.PROVISION, by="anna")
    Operation.objects.update(state=OperationState.RUNNING, alive_at=Now(), started_at=Now() - timedelta(hours=1))
    sweep()
    operation.refresh_from_db()
    assert operation.state == OperationState.RUNNING


def test_an_abandoned_operation_stops_at_its_next_step(shard: Shard) -> None:
    operation = request(shard, OperationKind.PROVISION, by="anna")
    Operation.objects.update(state=OperationState.FAILED)
    with pytest.raises(Abandoned):
        OperationJournal(operation).step("create the container")


def test_an_abandoned_operation_does_not_change_the_shard(
    shard: Shard, maker: LivelyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    do(shard, OperationKind.PROVISION)

    def given_up(ref: str, journal: OperationJournal) -> None:
        Operation.objects.filter(kind=OperationKind.DESTROY).update(state=OperationState.FAILED)
        journal.step("remove it")

    monkeypatch.setattr(maker, "destroy", given_up)
    do(shard, OperationKind.DESTROY)
    assert shard.state == ShardState.PROVISIONING


def test_an_orphan_is_destroyed_once_it_is_old(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    Shard.objects.update(provider_ref="", state=ShardState.REQUESTED)
    (young,) = reconcile("memory", repair=True)
    assert (young.may_repair, len(maker.list())) == (False, 1)
    with patch("shards.operations.drift.ORPHAN_AFTER", timedelta(0)):
        (old,) = reconcile("memory", repair=False)
        assert (old.may_repair, len(maker.list())) == (True, 1)
        reconcile("memory", repair=True)
    assert maker.list() == []


def test_a_shard_whose_container_is_gone_is_suspect_and_then_lost(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    maker.set_state(shard.provider_ref, ContainerState.GONE)
    reconcile("memory", repair=True)
    shard.refresh_from_db()
    assert (shard.state, shard.state_reason, shard.provider_ref) == ("suspect", "its container is gone", "")


def test_nothing_is_concluded_from_a_provider_that_does_not_answer(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    maker.fail_next("list", ProviderUnreachable("connection refused"))
    with pytest.raises(ProviderUnreachable):
        reconcile("memory", repair=True)
    shard.refresh_from_db()
    assert shard.state == ShardState.READY


class TestJobsThatRunThere:
    """Attempts count, under the lock that claims take, because the worker's report may be seconds old."""

    @pytest.fixture
    def busy(self, shard: Shard, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        do(shard, OperationKind.PROVISION)
        running = [1]
        monkeypatch.setattr("jobs.capacity.running_jobs.running_on", lambda shard_id: running[0])
        return running

    @pytest.mark.parametrize("kind", ["stop", "restart", "destroy"])
    def test_they_are_not_ended(self, shard: Shard, busy: list[int], kind: str) -> None:
        with pytest.raises(WrongState, match="it runs a job"):
            request(shard, kind, by="anna")

    def test_a_job_claimed_after_the_request_is_not_ended(self, shard: Shard, busy: list[int]) -> None:
        busy[0] = 0
        operation = request(shard, OperationKind.DESTROY, by="anna")
        busy[0] = 1
        carry_out(operation.pk)
        operation.refresh_from_db()
        shard.refresh_from_db()
        assert "has claimed a job since the request" in operation.error
        assert (shard.state, bool(shard.provider_ref)) == (ShardState.READY, True)

    def test_they_end_if_allowed(self, shard: Shard, busy: list[int]) -> None:
        operation = request(shard, OperationKind.DESTROY, by="anna", force=True)
        carry_out(operation.pk)
        shard.refresh_from_db()
        assert shard.state == ShardState.GONE
