from __future__ import annotations

import pytest

from shards.broker_access import redis_acl as broker
from shards.models import Shard
from shards.monitoring.models import Alert
from shards.operations import periodic
from shards.operations.models import OperationKind
from tests.factories.operations import LivelyProvider, do

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    periodic._known.clear()


def test_a_lost_broker_user_is_created_again(shard: Shard) -> None:
    do(shard, OperationKind.PROVISION)
    broker.revoke(shard.name)
    periodic.reconcile_all()
    assert shard.name in broker.listed()


def test_a_user_without_a_shard_is_removed(shard: Shard) -> None:
    broker.grant("stranger", ["cap.git"], "0" * 64)
    periodic.reconcile_all()
    assert "stranger" not in broker.listed()


def test_problems_of_a_provider_are_alerted_once(
    shard: Shard, maker: LivelyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker, "problems", lambda: ["The token lacks VM.Snapshot on /pool/mctb."])
    for _ in range(3):
        periodic.reconcile_all()
    (alert,) = Alert.objects.filter(kind="provider.problems")
    assert (alert.count, alert.text) == (1, "The token lacks VM.Snapshot on /pool/mctb.")


def test_an_unreachable_provider_does_not_prevent_repairs_of_the_broker(shard: Shard, maker: LivelyProvider) -> None:
    from shards.providers.errors import ProviderUnreachable

    do(shard, OperationKind.PROVISION)
    broker.revoke(shard.name)
    maker.fail_next("list", ProviderUnreachable("connection refused"))
    periodic.reconcile_all()
    assert shard.name in broker.listed()
