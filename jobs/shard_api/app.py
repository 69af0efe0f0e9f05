"""The shard API as an ASGI application, and as one view of Django."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from jobs.shard_api import runner_calls
from myctobot.api.errors import INTERNAL_ERROR, NO_SUCH_ADDRESS, error_body
from myctobot.errors import MyctobotError
from myctobot.web.threads import Answer, Threads, read_body
from shards.errors import UnknownShardKey
from shards.health.heartbeats import is_known
from shards.shard_api import enroll
from shards.shard_api.call import MAX_BODY_BYTES, Call, answer_to, answer_with
from shards.shard_api.heartbeat import take_heartbeat

log = structlog.get_logger(__name__)

PREFIX: Final = "/shard/v1/"
_OF_JOBS: Final[dict[str, Callable[[Call, str], Any]]] = {
    "claim": runner_calls.claim,
    "events": runner_calls.events,
    "finish": runner_calls.finish,
}
_MOST_KEYS: Final = 10_000
_NOT_ALLOWED = error_body("method_not_allowed", "Every call of the shard API is a POST.")


class _KnownKeys:
    """Keys that were some shard's when they were last looked up; one that has ended since opens nothing.

    The statements that do the work look for the key themselves. This only keeps everybody else from having more done
    than that.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def check(self, key_hash: str) -> None:
        """Raises UnknownShardKey: it is nobody's."""
        if key_hash in self._known:
            return
        if not is_known(key_hash):
            raise UnknownShardKey
        if len(self._known) >= _MOST_KEYS:
            self._known.clear()
        self._known.add(key_hash)


_keys = _KnownKeys()


def answer(call: Call) -> Answer:
    """Do what a call asks for.

    Every call may be repeated: what was done already is answered again.
    """
    if call.path == enroll.PATH:
        return _enrol(call)
    work = _work(call)
    if work is None:
        return answer_with(NO_SUCH_ADDRESS, 404)
    try:
        # A body is read for shards alone: to read one costs more than to send one.
        _keys.check(call.key_hash)
        if call.method != "POST":
            return _refusal(call, answer_with(_NOT_ALLOWED, 405))
        return answer_with(work())
    except UnknownShardKey as error:
        return answer_to(error)
    except MyctobotError as error:
        return _refusal(call, answer_to(error))


def _enrol(call: Call) -> Answer:
    """Let a shard in that has no key yet: the token alone decides."""
    if call.method != "POST":
        return answer_with(_NOT_ALLOWED, 405)
    try:
        return answer_with(enroll.take_enrolment(call))
    except MyctobotError as error:
        return answer_to(error)


def _work(call: Call) -> Callable[[], Any] | None:
    if call.path == "heartbeat":
        return lambda: take_heartbeat(call)
    parts = call.path.split("/")
    if len(parts) != 3 or parts[0] != "jobs" or not parts[1] or parts[2] not in _OF_JOBS:
        return None
    return lambda: _OF_JOBS[parts[2]](call, parts[1])


def _refusal(call: Call, refusal: Answer) -> Answer:
    """Say why only to a shard: the statements that do the work look for the key themselves, and find nothing."""
    try:
        return refusal if is_known(call.key_hash) else answer_to(UnknownShardKey())
    except UnknownShardKey as error:
        return answer_to(error)


def _safely(call: Call) -> Answer:
    try:
        return _once_more(call)
    except Exception:  # the border to the server, where a mistake of ours becomes an answer in JSON
        log.exception("shard_api.failed", path=call.path)
        return answer_with(INTERNAL_ERROR, 500)


def _once_more(call: Call) -> Answer:
    try:
        return answer(call)
    except (OperationalError, InterfaceError):
        # The pool does not look at its connections before it gives them, and PostgreSQL may have restarted since.
        connection.close()
        return answer(call)


class ShardApi:
    """Answers calls under ``/shard/``.

    Args:
        threads: where.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await read_body(receive, MAX_BODY_BYTES)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"].startswith(PREFIX):
            call = Call(scope["method"], scope["path"].removeprefix(PREFIX), headers, body)
            found = await self._threads.run(_safely, call)
        else:
            found = answer_with(NO_SUCH_ADDRESS, 404)
        await found.send(send)


@csrf_exempt
def shard_api(request: HttpRequest, path: str = "") -> HttpResponse:
    """The same behind any server of Django's, such as the one of its tests."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers.items()}
    found = answer(Call(request.method or "", path, headers, request.body[: MAX_BODY_BYTES + 1]))
    return HttpResponse(found.body, status=found.status, content_type="application/json")
