"""Shard API as an ASGI application, and as one view of Django."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from jobs.attempts.fencing import SecretlessAttempts
from jobs.shard_api import runner_calls, work_calls
from jobs.shard_api.heartbeats import receive_heartbeat
from myctobot.api.errors import INTERNAL_ERROR, NO_SUCH_ADDRESS, error_body
from myctobot.contract.work import WORK_ARTIFACT
from myctobot.errors import MyctobotError, Unavailable
from myctobot.lib.postgres.outage import is_outage
from myctobot.lib.ttl_cache import TtlCache
from myctobot.web.process_caches import ProcessCaches, process_caches
from myctobot.web.response import RawResponse, read_body
from myctobot.web.threads import RequestThreads
from shards.errors import UnknownShardKey
from shards.health.heartbeats import is_known
from shards.shard_api import enroll
from shards.shard_api.call import MAX_BODY_BYTES, ShardCall, answer_to, answer_with

log = structlog.get_logger(__name__)

PREFIX: Final = "/shard/v1/"
# By method, and by path below the job's.
_CALLS_OF_JOBS: Final[dict[tuple[str, str], Callable[[ShardCall, str, SecretlessAttempts], Any]]] = {
    ("POST", "claim"): runner_calls.claim,
    ("POST", "events"): runner_calls.events,
    ("POST", "finish"): runner_calls.finish,
    ("POST", "git-token"): runner_calls.git_token,
    ("PUT", f"artifacts/{WORK_ARTIFACT}"): work_calls.store_work,
    ("POST", f"artifacts/{WORK_ARTIFACT}"): work_calls.read_work,
}
_PATHS_OF_JOBS: Final = frozenset(path for _, path in _CALLS_OF_JOBS)
_NOT_ALLOWED = error_body("method_not_allowed", "The calls of the shard API are a POST, and a PUT of kept work.")


class KnownShardKeys:
    """Digests of shard keys that were valid when they were last looked up.

    A key that has ended since opens nothing, because every statement checks the key itself. The lookup only keeps
    strangers from making the server read a body.
    """

    _MAX: Final = 10_000
    _TTL_S: Final = 600

    def __init__(self) -> None:
        self._known: TtlCache[str, bool] = TtlCache(self._MAX, self._TTL_S)

    def remembers(self, key_hash: str) -> bool:
        """Return true if the key was found by an earlier call."""
        return self._known.get(key_hash) is not None

    def check(self, key_hash: str) -> None:
        """Raise UnknownShardKey if the key belongs to no shard."""
        if self.remembers(key_hash):
            return
        if not is_known(key_hash):
            raise UnknownShardKey
        self._known.put(key_hash, True)


def answer(call: ShardCall, caches: ProcessCaches) -> RawResponse:
    """Carry out a call; every call may be repeated and then gets the same answer."""
    if call.path == enroll.PATH:
        return _enrol(call)
    work = _work(call, caches)
    if work is None:
        return answer_with(NO_SUCH_ADDRESS, 404)
    try:
        # Only a shard's body is read, because reading one costs more than sending one.
        caches.get(KnownShardKeys).check(call.key_hash)
        return answer_with(work())
    except UnknownMethod:
        return _refusal(call, answer_with(_NOT_ALLOWED, 405))
    except UnknownShardKey as error:
        return answer_to(error)
    except MyctobotError as error:
        return _refusal(call, answer_to(error))


def _enrol(call: ShardCall) -> RawResponse:
    """Let a shard in that has no key yet: the token alone decides."""
    if call.method != "POST":
        return answer_with(_NOT_ALLOWED, 405)
    try:
        return answer_with(enroll.receive_enrolment(call))
    except MyctobotError as error:
        return answer_to(error)


def _work(call: ShardCall, caches: ProcessCaches) -> Callable[[], Any] | None:
    """Return the function that carries out a call; None if its path is unknown."""
    if call.path == "heartbeat":
        carry_out: Callable[[ShardCall], Any] = receive_heartbeat if call.method == "POST" else _refuse_method
        return lambda: carry_out(call)
    parts = call.path.split("/", 2)
    if len(parts) != 3 or parts[0] != "jobs" or not parts[1] or parts[2] not in _PATHS_OF_JOBS:
        return None
    found: Callable[..., Any] = _CALLS_OF_JOBS.get((call.method, parts[2]), _refuse_method)
    return lambda: found(call, parts[1], caches.get(SecretlessAttempts))


class UnknownMethod(Exception):
    """The path has no call with this method."""


def _refuse_method(*_: Any) -> Any:
    raise UnknownMethod


def _refusal(call: ShardCall, refusal: RawResponse) -> RawResponse:
    """Return a reason only to a shard: the statements check the key themselves, and match nothing without it."""
    try:
        return refusal if is_known(call.key_hash) else answer_to(UnknownShardKey())
    except UnknownShardKey as error:
        return answer_to(error)


def _answer_or_error(call: ShardCall, caches: ProcessCaches) -> RawResponse:
    try:
        return _answer_with_retry(call, caches)
    except Exception as error:  # the border to the server, where a mistake of ours becomes an answer in JSON
        if is_outage(error):
            log.warning("shard_api.unavailable", path=call.path, error=str(error))
            return answer_to(Unavailable())
        log.exception("shard_api.failed", path=call.path)
        return answer_with(INTERNAL_ERROR, 500)


def _answer_with_retry(call: ShardCall, caches: ProcessCaches) -> RawResponse:
    try:
        return answer(call, caches)
    except (OperationalError, InterfaceError):
        # A busy thread keeps its connection, and PostgreSQL may have restarted. Other errors would occur again.
        if connection.connection is None or not connection.connection.closed:
            raise
        connection.close()
        return answer(call, caches)


class ShardApi:
    """Answer calls under ``/shard/``.

    Args:
        threads: run the calls.
        caches: of this process.
    """

    def __init__(self, threads: RequestThreads, caches: ProcessCaches) -> None:
        self._threads, self._caches = threads, caches

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await read_body(receive)
        if body is None:
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if scope["path"].startswith(PREFIX):
            call = ShardCall(scope["method"], scope["path"].removeprefix(PREFIX), headers, body)
            found = await self._threads.run(_answer_or_error, call, self._caches)
        else:
            found = answer_with(NO_SUCH_ADDRESS, 404)
        await found.send(send)


@csrf_exempt
def shard_api(request: HttpRequest, path: str = "") -> HttpResponse:
    """Answer a call behind any server of Django's, such as the one of its tests."""
    headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers.items()}
    call = ShardCall(request.method or "", path, headers, request.body[: MAX_BODY_BYTES + 1])
    found = answer(call, process_caches(request))
    return HttpResponse(found.body, status=found.status, content_type="application/json")
