from __future__ import annotations

import pytest

from shards.broker_access import redis_acl as broker
from shards.models.shard import Shard
from shards.monitoring.models import Alert
from shards.operations import periodic as upkeep
from shards.operations.models import OperationKind

from .support import LivelyProvider, do

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_known() -> None:
    upkeep._known.clear()


def test_a_lost_broker_user_is_made_again(shard: Shard) -> None:
    do(shard, OperationKind.PROVISION)
    broker.revoke(shard.name)
    upkeep.reconcile_all()
    assert shard.name in broker.listed()


def test_a_users_shard_that_is_not_on_record_goes(shard: Shard) -> None:
    broker.grant("stranger", ["cap.git"], "0" * 64)
    upkeep.reconcile_all()
    assert "stranger" not in broker.listed()


def test_what_a_provider_lacks_is_told_once(
    shard: Shard, maker: LivelyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maker, "problems", lambda: ["The token lacks VM.Snapshot on /pool/mctb."])
    for _ in range(3):
        upkeep.reconcile_all()
    (told,) = Alert.objects.filter(kind="provider.problems")
    assert (told.count, told.text) == (1, "The token lacks VM.Snapshot on /pool/mctb.")


def test_a_provider_that_is_away_does_not_keep_the_broker_from_being_put_right(
    shard: Shard, maker: LivelyProvider
) -> None:
    from shards.providers.errors import ProviderUnreachable

    do(shard, OperationKind.PROVISION)
    broker.revoke(shard.name)
    maker.fail_next("list", ProviderUnreachable("connection refused"))
    upkeep.reconcile_all()
    assert shard.name in broker.listed()
