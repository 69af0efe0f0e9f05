"""``POST /api/v1/jobs`` with an API key, which programs call many times a second.

Django's way from a request to a view and back, and REST framework's around the view, cost more than to store a job.
What is as most requests are is answered here; all else, and whatever is wrong, goes Django's way and is answered there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.http import HttpRequest, HttpResponse
from django.http.request import split_domain_port, validate_host
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.security import SecurityMiddleware
from rest_framework.exceptions import APIException

from jobs.api.request_serializers import JobRequestSerializer
from jobs.api.response_serializers import show_new
from jobs.lifecycle import submit as requests
from myctobot.api.errors import INTERNAL_ERROR
from myctobot.api.parsing import parsed_json
from myctobot.contract.jobs import MAX_REQUEST_BYTES
from myctobot.errors import MyctobotError
from myctobot.tenants.authentication import RecentKeys, token_in
from myctobot.tenants.models import Role
from myctobot.web.threads import Answer, ShortCalls, Threads, read_body

log = structlog.get_logger(__name__)

PATH: Final = "/api/v1/jobs"
# A longer one is worth the way through Django.
_MOST_BYTES: Final = 64 * 1024
_JSON: Final = frozenset({b"application/json", b"application/json; charset=utf-8"})
_ANY_JSON: Final = frozenset({b"*/*", b"application/json"})
# What changes nothing about the answer; with any other header a request goes Django's way.
_HARMLESS: Final = frozenset(
    {b"content-length", b"user-agent", b"connection", b"accept-encoding", b"accept-language"}
    | {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip"}
)
_KNOWN: Final = frozenset({b"host", b"authorization", b"content-type", b"accept", b"idempotency-key"})


class Submits:
    """Makes jobs of plain requests with a key.

    Args:
        threads: where.
        others: what answers all other requests.
    """

    def __init__(self, threads: Threads, others: ShortCalls) -> None:
        self._threads, self._others, self._keys = threads, others, RecentKeys()
        self._headers = list(_headers_of_middleware())

    async def __call__(self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        body = await read_body(receive, MAX_REQUEST_BYTES)
        if body is not None:
            await (await self._threads.run(self._answer, scope, body)).send(send)

    def _answer(self, scope: HTTPScope, body: bytes) -> Answer:
        try:
            return self._at_once(scope, body) or self._others.answer(scope, body)
        except Exception:  # the border to the server; once more might be one job more
            log.exception("submit.failed")
            return Answer(500, self._headers, json.dumps(INTERNAL_ERROR).encode())

    def _at_once(self, scope: HTTPScope, body: bytes) -> Answer | None:
        """Make a job; None when it takes a closer look, and nothing was done or is done twice."""
        headers = _plain_headers(scope)
        if headers is None or len(body) > _MOST_BYTES:
            return None
        token, key = token_in(headers[b"authorization"]), _idempotency_key(headers)
        if token is None:
            return None
        try:
            caller = self._keys.find(token)
            if caller is None or caller.role == Role.VIEWER:
                return None
            request = JobRequestSerializer.read(parsed_json(body, _MOST_BYTES))
            job, created = requests.submit(caller, request, key)
        except (MyctobotError, APIException):
            # Nothing was stored. It is refused again where sentences are made.
            self._keys.forget(token)
            return None
        except (OperationalError, InterfaceError):
            # The pool does not look at its connections before it gives them, and PostgreSQL may have restarted since.
            connection.close()
            if key is None:
                # Whether a job was stored is not known, and another try would make another.
                raise
            return None
        if not created:
            return None
        shown = json.dumps(show_new(job), separators=(",", ":")).encode()
        return Answer(201, [*self._headers, (b"location", f"{PATH}/{job.public_id}".encode())], shown)


def _plain_headers(scope: HTTPScope) -> dict[bytes, bytes] | None:
    """The headers that matter, when a request has nothing unusual."""
    if scope["query_string"]:
        return None
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _HARMLESS:
            continue
        if name not in _KNOWN or name in headers:
            return None
        headers[name] = value
    is_json = headers.get(b"content-type") in _JSON and headers.get(b"accept", b"*/*") in _ANY_JSON
    key = headers.get(b"idempotency-key", b"-")
    if not is_json or b"authorization" not in headers or not key.isascii() or not 1 <= len(key) <= 200:
        return None
    return headers if _is_our_host(headers.get(b"host", b"")) else None


@lru_cache(maxsize=64)
def _is_our_host(host: bytes) -> bool:
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def _idempotency_key(headers: Mapping[bytes, bytes]) -> str | None:
    key = headers.get(b"idempotency-key")
    return None if key is None else key.decode("ascii")


def _headers_of_middleware() -> Iterable[tuple[bytes, bytes]]:
    """What Django's middleware adds to each answer; it tells so of a blank one."""
    blank = HttpResponse(content_type="application/json", headers={"Allow": "GET, POST, HEAD, OPTIONS"})
    security, frames = SecurityMiddleware(lambda _: blank), XFrameOptionsMiddleware(lambda _: blank)
    response = frames.process_response(HttpRequest(), security.process_response(HttpRequest(), blank))
    return [(name.lower().encode("ascii"), value.encode("latin-1")) for name, value in response.items()]
