"""Users of shards are made, changed, found missing and removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pytest_django.fixtures import Settings
from redis import AuthenticationError, ConnectionError, Redis

from myctobot.lib.crypto import digest
from myctobot.stack.redis import EmbeddedRedis
from shards.broker_access import redis_acl as server
from shards.broker_access.acl_rules import Access
from shards.broker_access.redis_acl import Reconciled
from shards.errors import BrokerRefused, BrokerTooOld, BrokerUnreachable
from tests.fixtures.broker import PASSWORD, QUEUES, Operator

HASH = digest(PASSWORD)
S1, S2 = Access("s1", QUEUES, HASH), Access("s2", ["cap.git", "shard.s2"], digest("mctr_of-s2"))
needs_users = pytest.mark.needs("a redis of 7.0 or newer")


def is_let_in(name: str, password: str) -> bool:
    with Redis.from_url(server.broker_url_for(name, password), socket_timeout=5) as client:
        try:
            return bool(client.ping())
        except AuthenticationError:
            return False


@needs_users
def test_reconciling_repairs_a_broker_that_lost_its_users(operator: Operator) -> None:
    operator.redis.acl_deluser("shard-s1")
    assert server.reconcile([S1, S2]) == Reconciled(added=("s1", "s2"))
    assert is_let_in("s1", PASSWORD)
    assert server.reconcile([S1, S2]) == Reconciled()


@needs_users
@pytest.mark.parametrize(
    "change", [["+@all"], ["~*"], ["nopass"], ["off"], ["&*"], ["(+lpush ~*)"], [">another"], ["clearselectors"]]
)
def test_reconciling_undoes_what_somebody_changed(operator: Operator, change: list[str]) -> None:
    line = operator.redis.acl_list()
    operator.redis.execute_command("ACL SETUSER", "shard-s1", *change)
    assert server.reconcile([S1]) == Reconciled(changed=("s1",))
    assert operator.redis.acl_list() == line


@needs_users
def test_reconciling_removes_the_users_of_shards_that_are_gone_and_no_others(operator: Operator) -> None:
    operator.redis.execute_command("ACL SETUSER", "backup", "on", "nopass", "+ping")
    try:
        assert server.reconcile([S2]) == Reconciled(added=("s2",), removed=("s1",))
        assert "backup" in operator.redis.acl_users()
    finally:
        operator.redis.acl_deluser("backup")


@needs_users
def test_a_removed_users_connections_end(operator: Operator, shard: Any) -> None:
    held = shard.connection_pool.get_connection()
    held.send_command("BRPOP", "cap.git", "30")
    server.revoke("s1")
    with pytest.raises(ConnectionError):
        held.read_response()
    assert not is_let_in("s1", PASSWORD)
    server.revoke("s1")


@needs_users
def test_a_new_password_ends_the_old_one_and_its_connections(operator: Operator, shard: Any) -> None:
    held = shard.connection_pool.get_connection()
    held.send_command("BRPOP", "cap.git", "30")
    password, password_hash = server.rotate("s1", QUEUES)
    with pytest.raises(ConnectionError):
        held.read_response()
    assert (is_let_in("s1", PASSWORD), is_let_in("s1", password)) == (False, True)
    assert server.listed()["s1"].password_hashes == {password_hash}


@needs_users
def test_queues_that_it_leaves_stay_its_own_until_it_has_heard_of_it(operator: Operator) -> None:
    server.grant("s1", ["cap.new", "shard.s1"], HASH)
    new = Access("s1", ["cap.new", "shard.s1"], HASH)
    assert server.listed()["s1"].queues == {"cap.new", "cap.git", "shard.s1"}
    assert server.reconcile([new]) == Reconciled()
    assert 0 < operator.redis.ttl("myctobot:broker-access:leaving:s1") <= server.LEAVING_S
    operator.redis.delete("myctobot:broker-access:leaving:s1")
    assert server.reconcile([new]) == Reconciled(changed=("s1",))
    assert server.listed()["s1"].queues == {"cap.new", "shard.s1"}


@needs_users
def test_answers_that_nobody_fetched_get_an_end(operator: Operator, shard: Any) -> None:
    shard.lpush("x.reply.celery.pidbox", "too late")
    server.reconcile([S1])
    assert 0 < operator.redis.ttl("x.reply.celery.pidbox") <= 60


@needs_users
def test_users_survive_a_restart_of_the_embedded_broker(tmp_path: Path, settings: Settings) -> None:
    service = EmbeddedRedis(tmp_path / "home", port=0)
    settings.REDIS_URL = settings.SHARD_BROKER_URL = service.start()
    try:
        server.grant("s1", QUEUES, HASH)
        service.stop()
        settings.REDIS_URL = settings.SHARD_BROKER_URL = service.start()
        assert is_let_in("s1", PASSWORD)
        assert server.reconcile([S1]) == Reconciled()
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
        server.grant("s2", S2.queues, S2.password_hash)
        assert set(server.listed()) == {"s1", "s2"}
    finally:
        operator.redis.acl_deluser("nosave")


@needs_users
def test_our_own_user_needs_its_rights(operator: Operator, settings: Settings) -> None:
    operator.redis.execute_command("ACL SETUSER", "weak", "reset", "on", ">pw", "~*", "+@all", "-acl")
    address = settings.REDIS_URL.partition("@")[2]
    settings.REDIS_URL = f"redis://weak:pw@{address}"
    try:
        with pytest.raises(BrokerRefused, match=r"\+acl"):
            server.grant("s2", S2.queues, S2.password_hash)
    finally:
        operator.redis.acl_deluser("weak")


def test_a_broker_that_does_not_answer(settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    with pytest.raises(BrokerUnreachable) as raised:
        server.grant("s1", QUEUES, HASH)
    assert raised.value.retryable


def test_a_broker_that_is_too_old(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    # The wheel's is found where nothing else is.
    from myctobot.stack import redis as embedded

    found = embedded.find_server(str(tmp_path))
    monkeypatch.setattr(embedded, "find_server", lambda: found)
    service = EmbeddedRedis(tmp_path / "home", port=0)
    settings.REDIS_URL = service.start()
    try:
        assert not server.is_supported()
        with pytest.raises(BrokerTooOld, match=r"Redis 6\.2.*Install Redis 7\.0 or newer"):
            server.grant("s1", QUEUES, HASH)
        assert server.reconcile([S1]) == Reconciled()
        server.revoke("s1")
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
    assert server.broker_url_for("s1", "p/@:") == expected
    assert server.password_in(expected, "s1") == "p/@:"
    assert server.password_in(expected, "s2") is None
    assert server.password_in(given, "s1") is None
