"""``manage.py shards``."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from myctobot.tenants.models import AuditEntry
from shards.models import Shard
from shards.operations.models import Operation, OperationKind
from tests.factories.operations import LivelyProvider, do, post

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command("shards", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


def as_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def test_shards_are_listed_with_what_matters(shard: Shard) -> None:
    do(shard, OperationKind.PROVISION)
    (row,) = as_json("list")
    assert (row["name"], row["state"], row["provider"], row["class"]) == ("made", "ready", "memory", "filesystem+git")
    assert run("list").split() == ["made", "ready", "0/1", "memory", "filesystem+git"]


def test_a_shard_is_added_from_a_template_and_provisioning_is_requested(shard: Shard, maker: LivelyProvider) -> None:
    said = run(
        "add", "new", "--template", "general", "--provider", "memory", "--slots", "3", "--provision", "--by", "anna"
    )
    assert said == "Requested: provision of shard new."
    made = Shard.objects.get(name="new")
    assert (made.max_concurrent_jobs, made.capabilities) == (3, ["filesystem", "git"])
    assert Operation.objects.get(shard=made).requested_by == "anna"
    assert AuditEntry.objects.filter(subject="shard/new", actor="anna", action="shard.created").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("add", "Bad Name", "--template", "general"), "name: "),
        (("add", "x", "--template", "nothing"), "template: There is no template 'nothing'; there are: "),
        (("add", "made", "--template", "general"), "There is a shard 'made' already; choose another name."),
        (("destroy", "nobody"), "There is no shard 'nobody'; there are: made."),
        (("snapshot", "made", "Bad Label"), "label: The snapshot's name must be a lower-case slug"),
        (("start", "made"), "it is requested, and the operation needs a shard that is lost or stopped or suspect"),
    ],
)
def test_a_mistake_is_named(shard: Shard, arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError) as raised:
        run(*arguments)
    assert said in str(raised.value)
    assert raised.value.returncode == 2


def test_waiting_shows_the_end(shard: Shard, maker: LivelyProvider) -> None:
    with patch("shards.management.commands.shards.request", _carried_out):
        assert run("provision", "made", "--wait") == "Done: provision of shard made."


def _carried_out(shard: Shard, kind: str, **more: Any) -> Operation:
    return do(shard, OperationKind(kind))


def test_a_failure_is_an_exit_code(shard: Shard, maker: LivelyProvider) -> None:
    maker.is_silent = True
    with (
        patch("shards.management.commands.shards.request", _carried_out),
        pytest.raises(
            CommandError, match="provision of shard made failed: The container runs, but it has not enrolled"
        ),
    ):
        run("provision", "made", "--wait")


def test_a_token_is_printed_alone_and_opens(shard: Shard) -> None:
    token = run("enrol", "made")
    assert post("/shard/v1/enroll", {"token": token}).status_code == 200


def test_differences_are_shown(shard: Shard, maker: LivelyProvider) -> None:
    do(shard, OperationKind.PROVISION)
    assert run("reconcile", "memory") == "No differences."
    Shard.objects.update(provider_ref="", state="requested")
    assert "which belongs to no shard; not repaired yet" in run("reconcile", "memory")


def test_providers_say_what_they_lack(shard: Shard) -> None:
    said = run("providers")
    assert "memory: works here" in said
    assert "proxmox: " in said
