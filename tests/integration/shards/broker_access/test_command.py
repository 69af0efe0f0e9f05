"""Commands that manage the shards' broker users."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from shards.broker_access import redis_acl
from shards.models import Shard
from tests.factories.control_plane import make_shard
from tests.fixtures.broker import Operator
from tests.integration.shards.broker_access.test_accounts import is_let_in

pytestmark = [pytest.mark.django_db, pytest.mark.needs("a redis of 7.0 or newer")]


def call(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


@pytest.fixture
def one(operator: Operator) -> Shard:
    redis_acl.revoke("s1")
    made, _ = make_shard("one")
    return made


def password_of(one: Shard) -> str:
    password = redis_acl.password_in(
        json.loads(call("create_shard_key", "--shard", one.name, "--json"))["broker_url"], "one"
    )
    assert password
    return password


def test_a_new_key_comes_with_a_broker_user(one: Shard) -> None:
    first, second = password_of(one), password_of(one)
    assert (is_let_in("one", first), is_let_in("one", second)) == (False, True)
    assert redis_acl.listed()["one"].queues == set(one.queues)


def test_only_the_key_goes_to_standard_output(one: Shard) -> None:
    out, err = io.StringIO(), io.StringIO()
    call_command("create_shard_key", "--shard", "one", stdout=out, stderr=err)
    assert out.getvalue().startswith("mcts_")
    assert "redis" not in out.getvalue()
    assert "redis://shard-one:mctr_" in err.getvalue()


def test_no_key_is_issued_while_the_broker_is_down(one: Shard, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    before = Shard.objects.values_list("key_hash", "broker_password_hash").get(name="one")
    with pytest.raises(CommandError, match=r"does not answer.*Nothing has changed"):
        call("create_shard_key", "--shard", "one")
    assert Shard.objects.values_list("key_hash", "broker_password_hash").get(name="one") == before


def test_the_report_has_all_figures(one: Shard) -> None:
    assert call("broker_access", "show") == "No shard has its own user."
    password_of(one)
    assert call("broker_access", "show") == f"shard-one  reads {', '.join(sorted(one.queues))}"
    shown = json.loads(call("broker_access", "show", "--json"))
    assert shown == {"one": {"user": "shard-one", "queues": sorted(one.queues)}}


def test_a_lost_user_is_found_and_created_again(one: Shard, operator: Operator) -> None:
    password = password_of(one)
    assert "each with its own user" in call("broker_access", "check")
    operator.redis.acl_deluser("shard-one")
    with pytest.raises(CommandError, match="one has no user"):
        call("broker_access", "check")
    assert call("broker_access", "reconcile") == "added shard-one"
    assert call("broker_access", "reconcile") == "Nothing to do."
    assert is_let_in("one", password)


def test_a_user_is_given_again(one: Shard, operator: Operator) -> None:
    with pytest.raises(CommandError, match="'one' has no password"):
        call("broker_access", "apply", "--shard", "one")
    password = password_of(one)
    operator.redis.acl_deluser("shard-one")
    assert "shard-one may read cap." in call("broker_access", "apply", "--shard", "one")
    assert is_let_in("one", password)


@pytest.mark.parametrize(
    ("rule", "words"),
    [("(+brpop ~control)", "one may read .*control"), (None, "stranger has a user")],
)
def test_problems_are_named(one: Shard, operator: Operator, rule: str | None, words: str) -> None:
    password_of(one)
    change = ("shard-one", rule) if rule else ("shard-stranger", "on")
    operator.redis.execute_command("ACL SETUSER", *change)
    with pytest.raises(CommandError, match=words):
        call("broker_access", "check")
    call("broker_access", "reconcile")
    assert "1 shards" in call("broker_access", "check")


def test_a_shard_that_uses_the_control_planes_password_is_named(one: Shard) -> None:
    one.issue_key()
    with pytest.raises(CommandError, match="one uses a shared broker password"):
        call("broker_access", "check")
