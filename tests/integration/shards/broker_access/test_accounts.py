"""Broker users of shards are created, changed, repaired and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from redis import AuthenticationError, ConnectionError, Redis

from myctobot.lib.crypto import digest
from myctobot.stack.redis import EmbeddedRedis
from shards.broker_access import redis_acl
from shards.broker_access.acl_rules import BrokerAccount
from shards.broker_access.redis_acl import Reconciled
from shards.errors import BrokerRefused, BrokerTooOld, BrokerUnreachable
from tests.fixtures.broker import PASSWORD, QUEUES, Operator

HASH = digest(PASSWORD)
S1, S2 = BrokerAccount("s1", QUEUES, HASH), BrokerAccount("s2", ["cap.git", "shard.s2"], digest("mctr_of-s2"))
needs_users = pytest.mark.needs("a redis of 7.0 or newer")


def is_let_in(name: str, password: str) -> bool:
    with Redis.from_url(redis_acl.broker_url_for(name, password), socket_timeout=5) as client:
        try:
            return bool(client.ping())
        except AuthenticationError:
            return False


@needs_users
def test_reconciling_repairs_a_broker_that_lost_its_users(operator: Operator) -> None:
    operator.redis.acl_deluser("shard-s1")
    assert redis_acl.reconcile([S1, S2]) == Reconciled(added=("s1", "s2"))
    assert is_let_in("s1", PASSWORD)
    assert redis_acl.reconcile([S1, S2]) == Reconciled()


@needs_users
@pytest.mark.parametrize(
    "change", [["+@all"], ["~*"], ["nopass"], ["off"], ["&*"], ["(+lpush ~*)"], [">another"], ["clearselectors"]]
)
def test_reconciling_undoes_foreign_changes(operator: Operator, change: list[str]) -> None:
    line = operator.redis.acl_list()
    operator.redis.execute_command("ACL SETUSER", "shard-s1", *change)
    assert redis_acl.reconcile([S1]) == Reconciled(changed=("s1",))
    assert operator.redis.acl_list() == line


@needs_users
def test_reconciling_removes_the_users_of_shards_that_are_gone_and_no_others(operator: Operator) -> None:
    operator.redis.execute_command("ACL SETUSER", "backup", "on", "nopass", "+ping")
    try:
        assert redis_acl.reconcile([S2]) == Reconciled(added=("s2",), removed=("s1",))
        assert "backup" in operator.redis.acl_users()
    finally:
        operator.redis.acl_deluser("backup")


@needs_users
def test_a_removed_users_connections_end(operator: Operator, shard: Any) -> None:
    held = shard.connection_pool.get_connection()
    held.send_command("BRPOP", "cap.git", "30")
    redis_acl.revoke("s1")
    with pytest.raises(ConnectionError):
        held.read_response()
    assert not is_let_in("s1", PASSWORD)
    redis_acl.revoke("s1")


@needs_users
def test_a_new_password_ends_the_old_one_and_its_connections(operator: Operator, shard: Any) -> None:
    held = shard.connection_pool.get_connection()
    held.send_command("BRPOP", "cap.git", "30")
    password, password_hash = redis_acl.rotate("s1", QUEUES)
    with pytest.raises(ConnectionError):
        held.read_response()
    assert (is_let_in("s1", PASSWORD), is_let_in("s1", password)) == (False, True)
    assert redis_acl.listed()["s1"].password_hashes == {password_hash}


@needs_users
def test_it_may_read_old_queues_until_its_next_heartbeat(operator: Operator) -> None:
    redis_acl.grant("s1", ["cap.new", "shard.s1"], HASH)
    new = BrokerAccount("s1", ["cap.new", "shard.s1"], HASH)
    assert redis_acl.listed()["s1"].queues == {"cap.new", "cap.git", "shard.s1"}
    assert redis_acl.reconcile([new]) == Reconciled()
    assert 0 < operator.redis.ttl("myctobot:broker-access:leaving:s1") <= redis_acl.LEAVING_S
    operator.redis.delete("myctobot:broker-access:leaving:s1")
    assert redis_acl.reconcile([new]) == Reconciled(changed=("s1",))
    assert redis_acl.listed()["s1"].queues == {"cap.new", "shard.s1"}


@needs_users
def test_unread_answers_expire(operator: Operator, shard: Any) -> None:
    shard.lpush("x.reply.celery.pidbox", "too late")
    redis_acl.reconcile([S1])
    assert 0 < operator.redis.ttl("x.reply.celery.pidbox") <= 60


@needs_users
def test_users_survive_a_restart_of_the_embedded_broker(tmp_path: Path, settings: Settings) -> None:
    service = EmbeddedRedis(tmp_path / "home", port=0)
    settings.REDIS_URL = settings.SHARD_BROKER_URL = service.start()
    try:
        redis_acl.grant("s1", QUEUES, HASH)
        service.stop()
        settings.REDIS_URL = settings.SHARD_BROKER_URL = service.start()
        assert is_let_in("s1", PASSWORD)
        assert redis_acl.reconcile([S1]) == Reconciled()
        with Redis.from_url("redis://" + service.url.partition("@")[2]) as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
    finally:
        service.stop()


@needs_users
def test_a_broker_without_a_file_of_users_is_reconciled(operator: Operator, settings: Settings) -> None:
    operator.redis.execute_command("ACL SETUSER", "nosave", "reset", "on", ">pw", "~*", "+@all", "-acl|save")
    settings.REDIS_URL = settings.REDIS_URL.replace("redis://:", "redis://nosave:").replace(
        settings.REDIS_URL.partition("://:")[2].partition("@")[0], "pw"
    )
    try:
        redis_acl.grant("s2", S2.queues, S2.password_hash)
        assert set(redis_acl.listed()) == {"s1", "s2"}
    finally:
        operator.redis.acl_deluser("nosave")


@needs_users
def test_our_own_user_needs_its_rights(operator: Operator, settings: Settings) -> None:
    operator.redis.execute_command("ACL SETUSER", "weak", "reset", "on", ">pw", "~*", "+@all", "-acl")
    address = settings.REDIS_URL.partition("@")[2]
    settings.REDIS_URL = f"redis://weak:pw@{address}"
    try:
        with pytest.raises(BrokerRefused, match=r"\+acl"):
            redis_acl.grant("s2", S2.queues, S2.password_hash)
    finally:
        operator.redis.acl_deluser("weak")


def test_a_broker_that_does_not_answer(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(BrokerUnreachable) as raised:
        redis_acl.grant("s1", QUEUES, HASH)
    assert raised.value.retryable


def test_a_broker_that_is_too_old(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without other servers, the one of the wheel is used.
    from myctobot.stack import redis as embedded

    found = embedded.find_server(str(tmp_path))
    monkeypatch.setattr(embedded, "find_server", lambda: found)
    service = EmbeddedRedis(tmp_path / "home", port=0)
    settings.REDIS_URL = service.start()
    try:
        assert not redis_acl.is_supported()
        with pytest.raises(BrokerTooOld, match=r"Redis 6\.2.*Install Redis 7\.0 or newer"):
            redis_acl.grant("s1", QUEUES, HASH)
        assert redis_acl.reconcile([S1]) == Reconciled()
        redis_acl.revoke("s1")
    finally:
        service.stop()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://:secret@broker.example:6380/0", "redis://shard-s1:p%2F%40%3A@broker.example:6380/0"),
        ("rediss://admin:secret@broker.example/2", "rediss://shard-s1:p%2F%40%3A@broker.example/2"),
        ("redis://[fd00::1]:6379/0", "redis://shard-s1:p%2F%40%3A@[fd00::1]:6379/0"),
    ],
)
def test_the_address_for_a_shard_has_its_own_user_alone(settings: Settings, given: str, expected: str) -> None:
    settings.SHARD_BROKER_URL = given
    assert redis_acl.broker_url_for("s1", "p/@:") == expected
    assert redis_acl.password_in(expected, "s1") == "p/@:"
    assert redis_acl.password_in(expected, "s2") is None
    assert redis_acl.password_in(given, "s1") is None
