"""Remote control of a shard's worker: answers, missing answers and forged answers."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.conf import settings
from kombu.pidbox import Node
from redis import Redis

from myctobot.celery import app
from shards import remote_control
from shards.errors import NoAnswer
from shards.models import Shard
from tests.factories.control_plane import make_shard
from tests.fixtures.remote_control import worker

pytestmark = pytest.mark.django_db

OFFERS = {"shard": "one", "type": "general", "capabilities": ["git", "filesystem"], "mcp_servers": [], "slots": 2,
          "running": ["job_1.1"]}  # fmt: skip


class Liar(Node):
    """Worker that answers the commands to every shard."""

    def handle_message(self, body: Any, message: Any = None) -> Any:
        return self.dispatch(**{key: body.get(key) for key in ("method", "arguments", "reply_to", "ticket")})


@pytest.fixture
def shard(db: None) -> Shard:
    return make_shard("one", slots=2)[0]


def test_a_worker_that_is_what_is_configured(shard: Shard) -> None:
    with worker("shard-one@host", ping={"ok": "pong"}, capabilities=OFFERS):
        found = remote_control.connectivity(shard)
    assert (found.reachable, found.agrees, found.problem, found.running) == (True, True, "", ("job_1.1",))
    assert found.round_trip_ms is not None
    assert 0 < found.round_trip_ms < 3000


def test_differences_are_named(shard: Shard) -> None:
    with worker("shard-one@host", ping={"ok": "pong"}, capabilities={**OFFERS, "slots": 1, "capabilities": ["git"]}):
        found = remote_control.connectivity(shard)
    differ = {each.name: (each.configured, each.reported) for each in found.compared if not each.is_same}
    assert differ == {"capabilities": ("filesystem, git", "git"), "slots": ("2", "1")}


def test_a_missing_answer_is_reported_within_three_seconds(shard: Shard) -> None:
    began = time.monotonic()
    found = remote_control.connectivity(shard)
    assert 2.5 < time.monotonic() - began < 5
    assert (found.reachable, found.problem) == (False, "Shard one did not answer within 3 s.")


def test_another_shard_gets_no_command(shard: Shard) -> None:
    with worker("shard-one-b@host", ping={"ok": "pong"}), pytest.raises(NoAnswer):
        remote_control.tail_log(shard, 10)


def test_a_shard_that_answers_for_another_is_noticed(shard: Shard) -> None:
    with worker("shard-evil@host", Liar, ping={"ok": "pong"}, capabilities=OFFERS):
        found = remote_control.connectivity(shard)
    assert not found.reachable
    assert "“shard-evil@host” answered in place of shard one. Do not trust it." in found.problem


@pytest.mark.parametrize("answer", [None, "x", 5, {"error": "KeyError()"}, [None, {"a": 1}], "\x00" * 5])
def test_a_malformed_answer_does_no_harm(shard: Shard, answer: Any) -> None:
    with worker("shard-one@host", ping=answer, capabilities=answer, tail_log=answer):
        assert remote_control.connectivity(shard).reachable
        assert all(isinstance(line, str) for line in remote_control.tail_log(shard, 10))


@pytest.mark.parametrize("data", [b"not json", b"[1]", b"\xff", b"{}", b"[" * 30_000])
def test_bytes_that_are_no_answer_do_no_harm(shard: Shard, data: bytes) -> None:
    queue = app.control.mailbox.get_reply_queue().name  # type: ignore[attr-defined]  # missing in the stubs
    with Redis.from_url(settings.REDIS_URL) as broker, worker("shard-one@host", ping={"ok": "pong"}):
        broker.lpush(queue, data)
        assert remote_control.connectivity(shard).reachable


def test_a_log_is_cut_in_lines_and_length(shard: Shard) -> None:
    with worker("shard-one@host", tail_log=["x" * 100_000, *(f"line {at}\x00" for at in range(2000))]):
        lines = remote_control.tail_log(shard, 3)
        assert lines == ["line 1997", "line 1998", "line 1999"]
        assert max(map(len, remote_control.tail_log(shard, 5000))) <= 2000
