"""Messages that are dropped, and those that are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from myctobot.contract.messages import MAX_BYTES, DropReason, MessageFilter, MessageKind, kind_of, problem_of
from tests.fixtures.malformed_messages import encode, malformed, message

MESSAGES = malformed("ours", ["a", 1])
COMMANDS, EVENTS, ANSWERS = "/0.celery.pidbox", "/0.celeryev/worker.heartbeat", "x.reply.celery.pidbox"


def check_task(name: str, args: list[Any], kwargs: dict[str, Any]) -> DropReason | None:
    if name != "ours":
        return DropReason.TASK
    return None if len(args) == 2 and not kwargs else DropReason.ARGUMENTS


def problem(value: Any, source: str = "q") -> DropReason | None:
    return problem_of(source, value if isinstance(value, bytes) else json.dumps(value).encode(), check_task)


def with_body(body: Any, **headers: Any) -> dict[str, Any]:
    return {**message("ours", []), "headers": headers, "body": encode(json.dumps(body).encode())}


def test_a_task_is_processed() -> None:
    assert problem(message("ours", ["a", 1])) is None
    assert problem(message("ours", ["a", 1], expires="2030-01-01T00:00:00+00:00", argsrepr="('a', 1)")) is None


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_malformed_is_dropped(name: str) -> None:
    data, reason = MESSAGES[name]
    assert problem(data) == reason


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("control", MessageKind.TASK),
        ("cap.git", MessageKind.TASK),
        (COMMANDS, MessageKind.COMMAND),
        ("/15.celery.pidbox", MessageKind.COMMAND),
        (EVENTS, MessageKind.EVENT),
        (ANSWERS, MessageKind.ANSWER),
    ],
)
def test_kinds_by_their_source(source: str, kind: MessageKind) -> None:
    assert kind_of(source) is kind


@pytest.mark.parametrize("source", ["q", COMMANDS, EVENTS, ANSWERS])
def test_each_kind_has_a_bound(source: str) -> None:
    bound = MAX_BYTES[kind_of(source)]
    assert problem(b" " * bound, source) == DropReason.EMPTY
    assert problem(b" " * (bound + 1), source) == DropReason.TOO_LARGE


COMMAND: dict[str, Any] = {
    "method": "ping",
    "arguments": {},
    "destination": None,
    "pattern": "shard-*",
    "matcher": "glob",
}
REPLY_TO = {"exchange": "reply.celery.pidbox", "routing_key": "x"}
EVENT: dict[str, Any] = {
    "type": "task-received",
    "uuid": "u",
    "hostname": "h",
    "clock": 5,
    "timestamp": 1.5,
    "utcoffset": 0,
}


@pytest.mark.parametrize(
    ("source", "body", "headers"),
    [
        (COMMANDS, COMMAND, {"clock": 1, "expires": 1.5}),
        (COMMANDS, {**COMMAND, "reply_to": REPLY_TO, "ticket": "t"}, {"clock": 1}),
        (COMMANDS, {"method": "ping", "arguments": None, "destination": ["a@b"]}, {}),
        (ANSWERS, {"shard-a@b": {"ok": "pong"}}, {"ticket": "t", "clock": 1}),
        (EVENTS, EVENT, {"hostname": "h"}),
        (EVENTS, [EVENT, EVENT], {"hostname": "h"}),
    ],
)
def test_other_kinds_are_processed(source: str, body: Any, headers: dict[str, Any]) -> None:
    assert problem(with_body(body, **headers), source) is None


@pytest.mark.parametrize(
    ("source", "body", "headers"),
    [
        (COMMANDS, [COMMAND], {}),
        (COMMANDS, {**COMMAND, "method": 5}, {}),
        (COMMANDS, {**COMMAND, "arguments": [1]}, {}),
        (COMMANDS, {**COMMAND, "destination": 5}, {}),
        (COMMANDS, {**COMMAND, "destination": [5]}, {}),
        (COMMANDS, {**COMMAND, "pattern": ["*"]}, {}),
        (COMMANDS, {**COMMAND, "matcher": "pcre"}, {}),
        (COMMANDS, {**COMMAND, "reply_to": {}}, {}),
        (COMMANDS, {**COMMAND, "reply_to": "x"}, {}),
        (COMMANDS, COMMAND, {"clock": "late"}),
        (COMMANDS, COMMAND, {"clock": 1e300}),
        (ANSWERS, ["pong"], {"ticket": "t"}),
        (ANSWERS, {"a": 1}, {"ticket": ["t"]}),
        (ANSWERS, {"a": 1}, {"expires": "x"}),
        (EVENTS, "x", {}),
        (EVENTS, {**EVENT, "type": None}, {}),
        (EVENTS, {**EVENT, "uuid": [1]}, {}),
        (EVENTS, {**EVENT, "clock": True}, {}),
        (EVENTS, [EVENT, 5], {}),
    ],
)
def test_other_kinds_of_another_shape_are_dropped(source: str, body: Any, headers: dict[str, Any]) -> None:
    assert problem(with_body(body, **headers), source) == DropReason.BODY


def test_dropped_messages_are_counted_and_announced() -> None:
    said: list[tuple[str, str, int]] = []
    messages = MessageFilter(check_task, lambda *what: said.append(what))
    good = json.dumps(message("ours", ["a", 1])).encode()
    assert [messages.admits("q", data) for data in (b"", good, b"[]", b"[]")] == [False, True, False, False]
    assert messages.dropped == {"empty": 1, "not_an_object": 2}
    assert said == [("empty", "q", 0), ("not_an_object", "q", 2), ("not_an_object", "q", 2)]
