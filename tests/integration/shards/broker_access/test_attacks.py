"""Attacks with a shard's broker user: every command is refused that the worker does not need (see ``test_worker``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import RedisError
from redis.exceptions import NoPermissionError

from myctobot.lib.crypto import digest
from shards.broker_access import redis_acl
from tests.fixtures.broker import PASSWORD, Operator

pytestmark = pytest.mark.needs("a redis of 7.0 or newer")

SCRIPT = "return redis.call('lrange', KEYS[1], 0, -1)"
ATTACKS = [
    # Forge messages for other shards, its class, itself and the control plane.
    ("LPUSH", "cap.database", "x"),
    ("LPUSH", "cap.git", "x"),
    ("LPUSH", "shard.s1", "x"),
    ("RPUSH", "cap.git", "x"),
    ("LPUSHX", "cap.git", "x"),
    ("LINSERT", "cap.git", "BEFORE", "m", "x"),
    ("LSET", "cap.git", "0", "x"),
    ("LPUSH", "control", "x"),
    ("LPUSH", "shard.s2", "x"),
    ("LMOVE", "cap.git", "shard.s2", "LEFT", "LEFT"),
    ("RPOPLPUSH", "cap.git", "shard.s2"),
    ("BRPOPLPUSH", "cap.git", "shard.s2", "1"),
    ("COPY", "cap.git", "shard.s2"),
    ("RENAME", "cap.git", "shard.s2"),
    ("SORT", "cap.git", "STORE", "shard.s2"),
    # Take or read messages of others.
    ("BRPOP", "cap.database", "1"),
    ("BRPOP", "cap.git", "cap.database", "1"),
    ("BRPOP", "shard.s2", "1"),
    ("BRPOP", "control", "1"),
    ("BRPOP", "x.reply.celery.pidbox", "1"),
    ("BLPOP", "cap.git", "1"),
    ("BLMPOP", "1", "1", "cap.git", "LEFT"),
    ("LRANGE", "cap.git", "0", "-1"),
    ("LRANGE", "cap.database", "0", "-1"),
    ("LRANGE", "x.reply.celery.pidbox", "0", "-1"),
    ("LLEN", "cap.database"),
    ("LLEN", "cap.git"),
    ("DUMP", "cap.git"),
    ("EXISTS", "cap.database"),
    ("TYPE", "cap.database"),
    ("HGETALL", "unacked"),
    ("HGET", "unacked:s2", "x"),
    ("ZRANGE", "unacked_index", "0", "-1"),
    ("GET", "myctobot:round-wanted"),
    # Destroy data.
    ("DEL", "cap.database"),
    ("DEL", "cap.git"),
    ("UNLINK", "shard.s2"),
    ("EXPIRE", "cap.database", "1"),
    ("LTRIM", "cap.database", "1", "0"),
    ("SET", "cap.database", "x"),
    ("SET", "x.reply.celery.pidbox", "x"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    # Command other workers, and listen to foreign channels.
    ("PUBLISH", "/0.celery.pidbox", '{"method": "shutdown"}'),
    ("PUBLISH", "/1.celery.pidbox", "x"),
    ("PUBLISH", "/0.celeryev/other", "x"),
    ("PUBLISH", "asgi__group__job_x", "x"),
    ("SPUBLISH", "/0.celery.pidbox", "x"),
    ("SUBSCRIBE", "/0.celery.pidbox"),
    ("SUBSCRIBE", "asgi__group__job_x"),
    ("PSUBSCRIBE", "*"),
    ("PSUBSCRIBE", "/0.celery.pidbo?"),
    ("PSUBSCRIBE", "/0.celeryev/*"),
    ("PSUBSCRIBE", "/0.celery.pidbox", "asgi*"),
    ("SSUBSCRIBE", "x"),
    ("PUBSUB", "CHANNELS"),
    # Change bindings, which would copy messages.
    ("SADD", "_kombu.binding.celery", "cap.git\x06\x16\x06\x16shard.s1"),
    ("SADD", "_kombu.binding.reply.celery.pidbox", "x"),
    ("SMEMBERS", "_kombu.binding.celery"),
    # Run scripts, which are not needed.
    ("EVAL", SCRIPT, "1", "cap.database"),
    ("EVAL", "return 1", "0"),
    ("EVAL_RO", SCRIPT, "1", "cap.database"),
    ("EVALSHA", "0" * 40, "0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("SCRIPT", "FLUSH"),
    ("FCALL", "f", "0"),
    ("FUNCTION", "LIST"),
    # Control the server.
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("MONITOR",),
    ("SELECT", "1"),
    ("MOVE", "cap.git", "1"),
    ("MULTI",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("CONFIG", "REWRITE"),
    ("ACL", "WHOAMI"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "shard-s1", "allcommands", "allkeys"),
    ("ACL", "SETUSER", "evil", "on", "nopass", "+@all", "~*"),
    ("ACL", "DELUSER", "shard-s2"),
    ("ACL", "LOAD"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "KILL", "USER", "default"),
    ("CLIENT", "PAUSE", "10000"),
    ("CLIENT", "UNBLOCK", "1"),
    ("CLIENT", "TRACKING", "ON"),
    ("MIGRATE", "127.0.0.1", "1", "cap.git", "0", "1"),
    ("RESTORE", "cap.git", "0", "x"),
    ("REPLICAOF", "127.0.0.1", "1"),
    ("SLAVEOF", "127.0.0.1", "1"),
    ("PSYNC", "?", "-1"),
    ("SYNC",),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("BGSAVE",),
    ("BGREWRITEAOF",),
    ("SHUTDOWN", "NOSAVE"),
    ("FAILOVER",),
    ("CLUSTER", "INFO"),
    ("SLOWLOG", "GET"),
    ("LATENCY", "LATEST"),
    ("MEMORY", "STATS"),
    ("OBJECT", "ENCODING", "cap.git"),
    ("INFO",),
    ("COMMAND",),
    ("WAIT", "0", "1"),
]
# Commands that every user may run: authentication and the end of a connection.
ALWAYS = {"auth", "hello", "quit", "reset"}
# Commands without a key or channel of another shard.
HARMLESS = {"ping", "unsubscribe", "punsubscribe"}
MAX_ARGUMENTS = 6
REFUSALS = (
    "not permitted",
    # The server checks these before the user's rights. The last two commands are disabled for all users.
    "wrong number of arguments",
    "unknown subcommand",
    "DEBUG command not allowed",
    "MODULE command not allowed",
)


@pytest.fixture
def others(operator: Operator) -> None:
    """Store messages of another shard and of the control plane, which refused commands must not change."""
    redis_acl.grant("s2", ["cap.database", "shard.s2"], digest("mctr_of-s2"))
    for key in ("cap.git", "cap.database", "shard.s2", "control", "x.reply.celery.pidbox"):
        operator.redis.lpush(key, "m")
    operator.redis.hset("unacked:s2", "x", "m")


def attempt(client: Any, command: Sequence[str]) -> Any:
    """Send exactly these words, without redis-py's handling of the command."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*command)
        return connection.read_response()
    finally:
        # The connection may be in a state that the pool does not know.
        connection.disconnect()
        client.connection_pool.release(connection)


@pytest.mark.parametrize("command", ATTACKS, ids=" ".join)
def test_it_is_refused(others: None, shard: Any, operator: Operator, command: tuple[str, ...]) -> None:
    before = contents(operator)
    with pytest.raises(NoPermissionError):
        attempt(shard, command)
    assert contents(operator) == before
    assert redis_acl.listed().keys() == {"s1", "s2"}


def contents(operator: Operator) -> dict[str, Any]:
    return {key: operator.redis.dump(key) for key in sorted(operator.redis.scan_iter())}


@pytest.mark.parametrize(
    ("user", "password"),
    [("shard-s2", PASSWORD), ("shard-s1", ""), ("shard-s1", digest(PASSWORD)), ("default", ""), ("default", PASSWORD)],
)
def test_it_cannot_become_another_user(shard: Any, user: str, password: str) -> None:
    with pytest.raises(RedisError, match=r"WRONGPASS|invalid username-password"):
        attempt(shard, ("AUTH", user, password))
    with pytest.raises(RedisError, match=r"WRONGPASS|invalid username-password"):
        attempt(shard, ("HELLO", "3", "AUTH", user, password))


def test_after_a_reset_it_has_no_user(shard: Any) -> None:
    connection = shard.connection_pool.get_connection()
    connection.send_command("RESET")
    assert connection.read_response() == "RESET"
    connection.send_command("LRANGE", "cap.database", "0", "-1")
    with pytest.raises(RedisError, match="Authentication required"):
        connection.read_response()
    connection.disconnect()


# --- Every command that the server has -----------------------------------------------------------------


def every_command(operator: Operator) -> Iterator[tuple[list[str], int]]:
    """Yield each command, subcommands as two words, with its minimum number of words."""
    answer: Any = operator.redis.connection_pool.get_connection()
    answer.send_command("COMMAND")
    for entry in answer.read_response():
        yield from _of(entry)
    answer.disconnect()


def _of(entry: Sequence[Any]) -> Iterator[tuple[list[str], int]]:
    subcommands = entry[9] if len(entry) > 9 else []
    yield entry[0].split("|"), abs(entry[1])
    for subcommand in subcommands:
        yield from _of(subcommand)


@pytest.mark.parametrize("key", ["shard.s2", "cap.database", "control", "/0.celery.pidbox", "unacked:s2"])
def test_no_command_touches_what_is_anothers(others: None, shard: Any, operator: Operator, key: str) -> None:
    before = contents(operator)
    said = {}
    for words, arity in every_command(operator):
        if words[0] in ALWAYS | HARMLESS or (words == ["psubscribe"] and key == "/0.celery.pidbox"):
            continue
        # Use numbers for all arguments, because the server checks rights before it parses arguments.
        for extra in range(MAX_ARGUMENTS):
            command = [*words, *[key] * (max(arity - len(words), 0) + extra)]
            said[" ".join(command)] = outcome(shard, command)
    assert {command: what for command, what in said.items() if what not in REFUSALS} == {}
    assert list(said.values()).count("not permitted") > 1000
    assert contents(operator) == before


def outcome(shard: Any, command: Sequence[str]) -> str:
    try:
        attempt(shard, command)
    except NoPermissionError:
        return "not permitted"
    except RedisError as error:
        # The error of EXEC has a prefix before the reason.
        why = str(error).removeprefix("Transaction discarded because of: ").replace("NOPERM ", "not permitted: ")
        return next((start for start in REFUSALS if why.startswith(start)), why)
    return "done"


NAMES = st.one_of(
    st.sampled_from(["cap.git", "cap.git2", "cap.", "shard.s1", "shard.s11", "shard.s", "cap.git\x06\x163", "control"]),
    st.from_regex(r"(cap|shard)\.[a-z0-9@+-]{1,20}", fullmatch=True),
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=30),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES)
def test_it_takes_from_its_own_queues_alone(operator: Operator, name: str) -> None:
    assert may(operator, "BRPOP", name, "1") == (name in {"cap.git", "shard.s1"})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(NAMES, NAMES.map("{}.reply.celery.pidbox".format), NAMES.map("x.reply.celery.pidbox{}".format)))
def test_it_writes_into_replies_alone(operator: Operator, name: str) -> None:
    assert may(operator, "LPUSH", name, "x") == name.endswith(".reply.celery.pidbox")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.one_of(NAMES, NAMES.map("/0.celeryev/worker.{}".format), NAMES.map("/0.celery{}".format)))
def test_it_speaks_in_events_alone(operator: Operator, name: str) -> None:
    assert may(operator, "PUBLISH", name, "x") == name.startswith(("/0.celeryev/worker.", "/0.celeryev/task."))
    assert not may(operator, "PSUBSCRIBE", name)


@pytest.mark.parametrize("command", [("DEBUG", "SLEEP", "1"), ("MODULE", "LOAD", "/tmp/x.so")], ids=" ".join)
def test_it_may_not_do_what_the_server_refuses_to_everybody(operator: Operator, command: tuple[str, ...]) -> None:
    assert not may(operator, *command)


def may(operator: Operator, *command: str) -> bool:
    """Ask the server if the shard's user may run a command."""
    answer = operator.redis.execute_command("ACL DRYRUN", "shard-s1", *command)
    return answer in (True, "OK", b"OK")
