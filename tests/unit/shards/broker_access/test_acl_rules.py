from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myctobot.contract.shards import class_queue, shard_queue
from shards.broker_access.acl_rules import (
    BrokerAccount,
    arguments,
    parse_version,
    queues_in,
    shard_of,
    supports,
    user_name,
)

HASH = "a" * 64
QUEUES = [class_queue(["filesystem", "git"], "premium"), shard_queue("s1")]
SLUGS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "version", "supported"),
    [
        ("6.2.14", (6, 2), False),
        ("7.0.15", (7, 0), True),
        ("7.2.4", (7, 2), True),
        ("10.0.1", (10, 0), True),
        ("unknown", (0, 0), False),
        ("", (0, 0), False),
    ],
)
def test_which_servers_can_do_it(text: str, version: tuple[int, int], supported: bool) -> None:
    assert parse_version(text) == version
    assert supports(version) == supported


def test_the_whole_list() -> None:
    assert arguments(BrokerAccount("s1", QUEUES, HASH), version=(7, 0)) == (
        "shard-s1",
        *("reset", "on", f"#{HASH}", "resetchannels", "-@all", "+ping", "+unsubscribe", "+punsubscribe"),
        "(+brpop ~cap.filesystem+git@premium ~shard.s1)",
        "(+lpush ~*.reply.celery.pidbox)",
        "(+psubscribe &/0.celery.pidbox)",
        "(+publish &/0.celeryev/worker.* &/0.celeryev/task.*)",
    )


def test_another_database_has_other_channels_and_has_to_be_selected() -> None:
    made = arguments(BrokerAccount("s1", QUEUES, HASH), version=(7, 0), database=3)
    assert "+select" in made
    assert "(+psubscribe &/3.celery.pidbox)" in made
    assert not any("/0." in argument for argument in made)


def test_newer_servers_accept_client_information() -> None:
    assert "+client|setinfo" in arguments(BrokerAccount("s1", QUEUES, HASH), version=(7, 2))
    assert "+client|setinfo" not in arguments(BrokerAccount("s1", QUEUES, HASH), version=(7, 0))


@pytest.mark.parametrize(
    ("name", "queues", "password_hash"),
    [
        ("s1 ~*", QUEUES, HASH),
        ("S1", QUEUES, HASH),
        ("", QUEUES, HASH),
        ("s1", [], HASH),
        ("s1", ["cap.git ~*"], HASH),
        ("s1", ["cap.git) +@all (+ping"], HASH),
        ("s1", ["cap.*"], HASH),
        ("s1", ["cap.[a-z]"], HASH),
        ("s1", ["cap.git\n"], HASH),
        ("s1", ["*"], HASH),
        ("s1", ["control"], HASH),
        ("s1", ["cap."], HASH),
        ("s1", QUEUES, "nopass"),
        ("s1", QUEUES, ""),
        ("s1", QUEUES, "a" * 63),
        ("s1", QUEUES, "a" * 64 + " +@all"),
    ],
)
def test_nothing_else_becomes_a_rule(name: str, queues: list[str], password_hash: str) -> None:
    with pytest.raises(ValueError, match=r"not the name of a shard|not a queue|no queue|digest"):
        arguments(BrokerAccount(name, queues, password_hash), version=(7, 0))


@given(name=SLUGS, capabilities=st.lists(SLUGS, min_size=1, max_size=6), pool=st.none() | SLUGS)
def test_every_shard_gets_exactly_its_two_queues(name: str, capabilities: list[str], pool: str | None) -> None:
    queues = [class_queue(capabilities, pool), shard_queue(name)]
    made = arguments(BrokerAccount(name, queues, HASH), version=(7, 0))
    assert (made[0], shard_of(made[0])) == (user_name(name), name)
    (keys,) = [argument for argument in made if "~" in argument and "reply" not in argument]
    assert keys == "(+brpop " + " ".join(f"~{queue}" for queue in sorted(queues)) + ")"
    assert not any("*" in part for part in made if not part.startswith(("(+lpush", "(+publish")))


def test_the_digest_is_not_shown() -> None:
    assert HASH not in repr(BrokerAccount("s1", QUEUES, HASH))


def test_the_shard_of_a_user() -> None:
    assert shard_of("shard-s1") == "s1"
    assert shard_of("default") is None


def test_queues_as_the_server_lists_them() -> None:
    selectors = [
        ["commands", "-@all +brpop", "keys", "~cap.git ~shard.s1", "channels", ""],
        ["commands", "-@all +lpush", "keys", "~*.reply.celery.pidbox", "channels", ""],
    ]
    assert queues_in(selectors) == {"cap.git", "shard.s1"}
    assert queues_in([]) == frozenset()
