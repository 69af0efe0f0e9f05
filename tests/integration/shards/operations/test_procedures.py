from __future__ import annotations

import pytest
from django.test import override_settings

from myctobot.tenants.models import AuditEntry
from shards.broker_access import redis_acl as broker
from shards.errors import OperationUnderWay, WrongState
from shards.lifecycle import suspensions
from shards.models import Shard, ShardState
from shards.monitoring.models import StateChange
from shards.operations.models import Enrolment, Operation, OperationKind, OperationState
from shards.operations.requests import request
from shards.providers.base import ContainerState
from shards.providers.errors import OutOfRoom, ProviderBusy
from tests.factories.operations import LivelyProvider, do

pytestmark = pytest.mark.django_db


def test_a_shard_is_provisioned_enrols_and_is_ready(shard: Shard, maker: LivelyProvider) -> None:
    operation = do(shard, OperationKind.PROVISION)
    assert (operation.state, operation.error) == (OperationState.DONE, "")
    assert shard.state == ShardState.READY
    assert maker.status(shard.provider_ref).state is ContainerState.RUNNING
    config = maker.configs[shard.provider_ref]
    assert (config["shard_id"], config["capabilities"]) == ("made", ["filesystem", "git"])
    assert config["broker_url"].startswith("redis://shard-made:")
    assert broker.listed()["made"].queues == {"cap.filesystem+git", "shard.made"}


def test_each_step_is_written_down(shard: Shard) -> None:
    texts = [step["text"] for step in do(shard, OperationKind.PROVISION).steps]
    assert texts[0] == "create the container with memory"
    assert texts[-1] == "wait for its heartbeat"
    moves = StateChange.objects.filter(shard=shard).order_by("pk").values_list("was", "state")
    assert list(moves) == [("requested", "provisioning"), ("provisioning", "ready")]
    actions = set(AuditEntry.objects.filter(subject="shard/made").values_list("action", flat=True))
    assert actions >= {"shard.provision_requested", "shard.enrolled", "shard.provision_done"}


@pytest.mark.parametrize("method", ["create", "start"])
def test_a_failed_provision_leaves_nothing_and_has_a_reason(shard: Shard, maker: LivelyProvider, method: str) -> None:
    maker.fail_next(method, OutOfRoom("storage local-lvm is full"))
    operation = do(shard, OperationKind.PROVISION)
    assert (operation.state, operation.error) == (OperationState.FAILED, "storage local-lvm is full")
    assert (shard.state, shard.state_reason, shard.provider_ref) == ("requested", "storage local-lvm is full", "")
    assert maker.list() == []
    assert not Enrolment.objects.exists()
    assert do(shard, OperationKind.PROVISION).state == OperationState.DONE


def test_a_shard_that_does_not_report_is_removed(shard: Shard, maker: LivelyProvider) -> None:
    maker.is_silent = True
    operation = do(shard, OperationKind.PROVISION)
    assert operation.error == "The container runs, but it has not enrolled within 1 s."
    assert maker.list() == []


def test_a_container_that_cannot_be_removed_keeps_its_reference(shard: Shard, maker: LivelyProvider) -> None:
    maker.is_silent = True
    maker.fail_next("destroy", ProviderBusy("CT 104 is locked (backup)"))
    operation = do(shard, OperationKind.PROVISION)
    assert operation.error == "The container runs, but it has not enrolled within 1 s."
    assert [found.ref for found in maker.list()] == [shard.provider_ref]
    assert shard.state == ShardState.STOPPED
    assert shard.state_reason.endswith("Its container could not be removed: CT 104 is locked (backup)")
    assert do(shard, OperationKind.DESTROY).state == OperationState.DONE
    assert maker.list() == []


def test_destroy_leaves_nothing(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    key = maker.configs[shard.provider_ref]["shard_key"]
    assert do(shard, OperationKind.DESTROY).state == OperationState.DONE
    assert (shard.state, shard.provider_ref, shard.key_hash) == (ShardState.GONE, "", None)
    assert maker.list() == []
    assert "made" not in broker.listed()
    assert key
    assert do(shard, OperationKind.PROVISION).state == OperationState.DONE


def test_a_recycled_shard_has_new_credentials(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    before = dict(maker.configs[shard.provider_ref])
    suspensions.drain(shard.name, by="anna", reason="a job was there")
    assert do(shard, OperationKind.RECYCLE).state == OperationState.DONE
    after = maker.configs[shard.provider_ref]
    assert before["shard_key"] != after["shard_key"]
    assert before["broker_url"] != after["broker_url"]


def test_a_recycle_that_fails_leaves_the_shard_stopped(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    suspensions.drain(shard.name, by="anna", reason="a job was there")
    maker.fail_next("restore", OutOfRoom("storage local-lvm is full"))
    assert do(shard, OperationKind.RECYCLE).state == OperationState.FAILED
    assert (shard.state, shard.state_reason) == ("stopped", "recycle failed: storage local-lvm is full")
    assert do(shard, OperationKind.RECYCLE).state == OperationState.DONE


def test_snapshot_and_restore(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    assert do(shard, OperationKind.SNAPSHOT, label="before-update").state == OperationState.DONE
    key_hash = shard.key_hash
    assert do(shard, OperationKind.RESTORE, label="before-update").state == OperationState.DONE
    assert shard.state == ShardState.READY
    assert shard.key_hash != key_hash


def test_stop_and_start(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    do(shard, OperationKind.STOP)
    assert (shard.state, maker.status(shard.provider_ref).state) == ("stopped", ContainerState.STOPPED)
    do(shard, OperationKind.START)
    assert (shard.state, maker.status(shard.provider_ref).state) == ("ready", ContainerState.RUNNING)


def test_a_drained_shard_that_is_restarted_stays_drained(shard: Shard) -> None:
    do(shard, OperationKind.PROVISION)
    suspensions.drain(shard.name, by="anna", reason="kernel update")
    do(shard, OperationKind.RESTART)
    assert shard.state == ShardState.DRAINING


def test_a_shard_has_one_operation_at_a_time(shard: Shard) -> None:
    request(shard, OperationKind.PROVISION, by="anna")
    with pytest.raises(OperationUnderWay, match="provision, requested by anna, is in progress"):
        request(shard, OperationKind.DESTROY, by="bob")


def test_a_shard_without_a_provider_has_no_operations(shard: Shard) -> None:
    Shard.objects.update(provider="")
    with pytest.raises(WrongState, match="an operator manages its machine"):
        request(shard, OperationKind.RESTART, by="anna")


@override_settings(SHARD_CONTROL_URL="http://192.0.2.1:8000")
def test_a_container_learns_which_addresses_without_tls_are_accepted(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    assert maker.environment_of(shard.provider_ref)["MYCTOBOT_PLAIN_NETWORKS"] == "192.0.2.1"


@override_settings(SHARD_CONTROL_URL="https://control.example")
def test_a_container_gets_only_its_enrolment_data(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    environment = maker.environment_of(shard.provider_ref)
    assert set(environment) == {"MYCTOBOT_CONTROL_URL", "MYCTOBOT_SHARD", "MYCTOBOT_ENROL_TOKEN"}
    assert environment["MYCTOBOT_CONTROL_URL"] == "https://control.example"
    assert Operation.objects.get().steps
    assert environment["MYCTOBOT_ENROL_TOKEN"] not in str(Operation.objects.values_list("steps", flat=True))
