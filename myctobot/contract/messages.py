"""Messages of the broker: which of them are well-formed, and a bound for the size of each kind.

Workers drop every other message. The check comes before kombu and Celery read a message, because an exception in them
would end the consumer.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

MAX_DEPTH: Final = 16
_MAX_ID: Final = 200


class MessageKind(StrEnum):
    """Kind of a message, which follows from the queue or channel that it comes from."""

    TASK = "task"
    COMMAND = "command"  # to the workers
    ANSWER = "answer"  # of a worker to a command
    EVENT = "event"  # of a worker, for monitors


class DropReason(StrEnum):
    """Reason why a worker dropped a message."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    PROPERTIES = "properties"  # the envelope lacks properties or headers, or they have other types
    BODY = "body"  # the body cannot be read, or has another shape
    TASK = "task"  # the worker has no such task
    ARGUMENTS = "arguments"  # the task takes other arguments
    FAILED = "failed"  # an error of the worker's own while it took the message


# A worker's answer may have a thousand lines of its log.
MAX_BYTES: Final[Mapping[MessageKind, int]] = {
    MessageKind.TASK: 64 * 1024,
    MessageKind.COMMAND: 64 * 1024,
    MessageKind.EVENT: 256 * 1024,
    MessageKind.ANSWER: 4 * 1024 * 1024,
}

CheckTask = Callable[[str, list[Any], dict[str, Any]], DropReason | None]
OnDrop = Callable[[DropReason, str, int], None]


class _Malformed(Exception):
    """Message is malformed; the argument is a ``DropReason``."""


def kind_of(source: str) -> MessageKind:
    """Return the kind of the messages in a queue, or in a channel of publish and subscribe."""
    if source.endswith(".reply.celery.pidbox"):
        return MessageKind.ANSWER
    # Channels are named /0.celery.pidbox and /0.celeryev/worker.heartbeat, with the number of the database.
    channel = source.partition(".")[2] if source.startswith("/") else ""
    if channel.startswith("celeryev"):
        return MessageKind.EVENT
    return MessageKind.COMMAND if channel else MessageKind.TASK


def problem_of(source: str, data: bytes, check_task: CheckTask) -> DropReason | None:
    """Return the reason to drop a message, or None if it is well-formed.

    Args:
        source: name of its queue or channel.
        data: the message as the broker sent it.
        check_task: returns the reason to drop a task with this name, arguments and named arguments.
    """
    kind = kind_of(source)
    try:
        if len(data) > MAX_BYTES[kind]:
            return DropReason.TOO_LARGE
        message = _parse(data)
        headers, body = _open(message)
        if kind is MessageKind.TASK:
            return _task_problem(headers, body, check_task)
        is_well_formed = _CHECKS[kind](headers, body)
    except _Malformed as malformed:
        return DropReason(malformed.args[0])
    return None if is_well_formed else DropReason.BODY


def _parse(data: bytes) -> Any:
    if not data.strip():
        raise _Malformed(DropReason.EMPTY)
    try:
        value = json.loads(data.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise _Malformed(DropReason.NOT_UTF8) from None
    except (ValueError, RecursionError):
        raise _Malformed(DropReason.NOT_JSON) from None
    if not _is_plain(value):
        raise _Malformed(DropReason.NOT_JSON)
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _is_plain(value: Any) -> bool:
    """Tell whether a value is flat enough, has only texts of valid characters, and no marker of another type.

    Kombu turns an object with the key ``__type__`` into a value of that type.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        if not level:
            return True
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                if "__type__" in item:
                    return False
                below += [*item, *item.values()]
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not _encodes(item):
                return False
        level = below
    return not level


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open(message: Any) -> tuple[dict[str, Any], Any]:
    """Return the headers and the parsed body of an envelope."""
    if not isinstance(message, dict):
        raise _Malformed(DropReason.NOT_AN_OBJECT)
    properties, headers = message.get("properties"), message.get("headers")
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        raise _Malformed(DropReason.PROPERTIES)
    # A compressed body could be much larger than the message.
    if not _is_id(properties.get("delivery_tag")) or headers.get("compression"):
        raise _Malformed(DropReason.PROPERTIES)
    delivery = properties.get("delivery_info")
    if not isinstance(delivery, dict) or not _has_texts(delivery, "exchange", "routing_key", required=True):
        raise _Malformed(DropReason.PROPERTIES)
    if message.get("content-type") != "application/json" or message.get("content-encoding") != "utf-8":
        raise _Malformed(DropReason.BODY)
    try:
        body = _parse(_body_of(message.get("body"), properties.get("body_encoding")))
    except _Malformed:
        raise _Malformed(DropReason.BODY) from None
    return headers, body


def _body_of(body: Any, encoding: Any) -> bytes:
    if not isinstance(body, str) or encoding not in ("base64", "utf-8", None):
        raise _Malformed(DropReason.BODY)
    if encoding != "base64":
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except (ValueError, binascii.Error):
        raise _Malformed(DropReason.BODY) from None


def _task_problem(headers: dict[str, Any], body: Any, check_task: CheckTask) -> DropReason | None:
    if not _is_id(headers.get("id")) or not isinstance(headers.get("task"), str):
        return DropReason.PROPERTIES
    if not _has_known_options(headers):
        return DropReason.PROPERTIES
    if not isinstance(body, list) or len(body) != 3:
        return DropReason.BODY
    args, kwargs, following = body
    if not isinstance(args, list) or not isinstance(kwargs, dict) or not isinstance(following, dict):
        return DropReason.BODY
    # Such a message would make the worker send other tasks, and none of ours does.
    if any(following.values()):
        return DropReason.BODY
    return check_task(headers["task"], args, kwargs)


def _has_known_options(headers: dict[str, Any]) -> bool:
    """Tell whether the options of a task have the types that Celery relies on; none of ours has a start time."""
    limits = headers.get("timelimit")
    if limits is not None and (not isinstance(limits, list) or len(limits) != 2 or any(limits)):
        return False
    if not _has_texts(headers, "shadow", "root_id", "parent_id", "argsrepr", "kwargsrepr"):
        return False
    return headers.get("eta") is None and not headers.get("retries") and _is_time(headers.get("expires"))


def _is_time(value: Any) -> bool:
    if value is None:
        return True
    try:
        # Celery adds and compares time zones, which fails at the first and the last year.
        return isinstance(value, str) and 2000 < datetime.fromisoformat(value).year < 9000
    except ValueError:
        return False


def _is_command(headers: dict[str, Any], body: Any) -> bool:
    if not isinstance(body, dict) or not isinstance(body.get("method"), str):
        return False
    reply_to, destination = body.get("reply_to"), body.get("destination")
    if reply_to is not None and not (
        isinstance(reply_to, dict) and _is_id(reply_to.get("exchange")) and _is_id(reply_to.get("routing_key"))
    ):
        return False
    if not isinstance(destination, list | None) or not all(isinstance(name, str) for name in destination or []):
        return False
    if not isinstance(body.get("arguments"), dict | None):
        return False
    if not _has_texts(body, "pattern", "ticket") or body.get("matcher") not in (None, "glob"):
        return False
    return _has_numbers(headers, "clock")


def _is_answer(headers: dict[str, Any], body: Any) -> bool:
    return isinstance(body, dict) and _has_numbers(headers, "clock", "expires") and _has_texts(headers, "ticket")


def _is_event(headers: dict[str, Any], body: Any) -> bool:
    events = body if isinstance(body, list) else [body]
    return all(isinstance(event, dict) and _is_one_event(event) for event in events)


def _is_one_event(event: dict[str, Any]) -> bool:
    if not _has_texts(event, "type", "hostname", required=True):
        return False
    if event["type"].startswith("task-") and not _is_id(event.get("uuid")):
        return False
    return _has_numbers(event, "clock", "timestamp", "utcoffset", "local_received")


def _has_texts(fields: dict[str, Any], *names: str, required: bool = False) -> bool:
    """Tell whether each of these fields is a text, or absent if it is not required."""
    return all(isinstance(fields.get(name), str if required else str | None) for name in names)


def _has_numbers(fields: dict[str, Any], *names: str) -> bool:
    """Tell whether each of these fields is a number of a usual size, or absent."""
    values = [value for name in names if (value := fields.get(name)) is not None]
    return all(type(value) in (int, float) and abs(value) < 2**62 for value in values)


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_ID


_CHECKS: Final[Mapping[MessageKind, Callable[[dict[str, Any], Any], bool]]] = {
    MessageKind.COMMAND: _is_command,
    MessageKind.ANSWER: _is_answer,
    MessageKind.EVENT: _is_event,
}


class MessageFilter:
    """Filter of a process, which drops malformed messages and counts them.

    Args:
        check_task: see ``problem_of``.
        on_drop: called for each dropped message with the reason, its queue or channel, and its size in bytes.
    """

    def __init__(self, check_task: CheckTask, on_drop: OnDrop) -> None:
        self._check_task, self._on_drop = check_task, on_drop
        # Since the start of the process. Only the thread of the consumer adds to it.
        self.dropped: Counter[DropReason] = Counter()

    def admits(self, source: str, data: bytes) -> bool:
        """Tell whether a message may be processed; otherwise it counts as dropped."""
        problem = problem_of(source, data, self._check_task)
        if problem is not None:
            self.drop(problem, source, len(data))
        return problem is None

    def drop(self, reason: DropReason, source: str, size: int = 0) -> None:
        """Count a message that was dropped."""
        self.dropped[reason] += 1
        self._on_drop(reason, source, size)
