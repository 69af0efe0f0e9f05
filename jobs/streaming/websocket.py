"""Job events over a WebSocket: ``/ws/jobs/{id}/?after=SEQ``.

Each text message is ``{"events": […]}``; a message without events is a heartbeat. The last message has the ``end``
event, and then the server closes with 1000. Any other close has a code and a sentence. The connection is accepted
first, because browsers do not show the code of a refused handshake.

A plain ASGI application, because a Channels consumer would subscribe each viewer to the channel layer, and here one
subscription serves all viewers of a job.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from enum import IntEnum
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

import structlog
from asgiref.typing import ASGIReceiveCallable, ASGISendCallable
from django.conf import settings
from django.db import Error as DatabaseError
from django.http.request import split_domain_port, validate_host

from jobs.models import Job
from jobs.streaming.access import WatchAccess, access_monitor, by_key, by_session, by_ticket
from jobs.streaming.hub import JobGone, ServerStops, hub
from jobs.streaming.reader import in_reader

log = structlog.get_logger(__name__)

_MAX_SEQ = 2**53


class Close(IntEnum):
    """Close codes of a connection; 4000 and above are for applications (RFC 6455, section 7.4.2)."""

    END = 1000
    RESTART = 1012
    TRY_AGAIN = 1013
    BAD_REQUEST = 4400
    NOT_AUTHENTICATED = 4401
    NOT_ALLOWED = 4403
    UNKNOWN_JOB = 4404


class WatchRefused(Exception):
    """The connection ends with a code and a sentence."""

    def __init__(self, code: Close, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


_UNKNOWN = WatchRefused(Close.UNKNOWN_JOB, "There is no such job, or it belongs to another tenant.")
_ENDED = WatchRefused(Close.NOT_ALLOWED, "Your access to this job has ended.")
_RESTARTS = WatchRefused(Close.RESTART, "The server restarts; connect again.")
_UNAVAILABLE = WatchRefused(Close.TRY_AGAIN, "The database does not answer; try again.")


@dataclass(frozen=True)
class Handshake:
    """Untrusted request of a viewer."""

    job_id: str
    headers: dict[str, str]
    query: dict[str, list[str]]
    secure: bool

    @classmethod
    def from_scope(cls, scope: Any) -> Handshake:
        """Read an ASGI scope.

        Raises:
            WatchRefused: the query has too many parameters.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, max_num_fields=20)
        except ValueError as error:
            raise WatchRefused(Close.BAD_REQUEST, "The query has too many parameters.") from error
        job_id = scope["url_route"]["kwargs"]["job_id"].replace("\x00", "")
        return cls(job_id, headers, query, scope.get("scheme") == "wss")

    def value(self, name: str) -> str | None:
        return self.query[name][-1] if name in self.query else None

    @property
    def bearer(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else None

    @property
    def session(self) -> str | None:
        try:
            cookies = SimpleCookie(self.headers.get("cookie", ""))
        except CookieError:
            return None
        found = cookies.get(settings.SESSION_COOKIE_NAME)
        return found.value if found else None


def after_of(handshake: Handshake) -> int:
    """Return the event number in ``after``.

    Raises:
        WatchRefused: it is not a valid event number.
    """
    text = handshake.value("after") or "0"
    if not text.isascii() or not text.isdigit() or len(text) > 16 or int(text) > _MAX_SEQ:
        raise WatchRefused(Close.BAD_REQUEST, f"after: Must be a whole number from 0 to {_MAX_SEQ}.")
    return int(text)


def is_own_origin(origin: str, handshake: Handshake) -> bool:
    """Tell whether a page of this site opened the connection: another site's page could use the viewer's cookies."""
    known = {settings.CONTROL_URL, *settings.CSRF_TRUSTED_ORIGINS}
    host = handshake.headers.get("host", "")
    if validate_host(split_domain_port(host)[0], settings.ALLOWED_HOSTS):
        known.add(f"{'https' if handshake.secure else 'http'}://{host}")
    return origin in {f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, known)}


def authenticate(handshake: Handshake) -> WatchAccess:
    """Authenticate a viewer by ticket, API key or session.

    Raises:
        WatchRefused: the viewer may not watch.
    """
    origin = handshake.headers.get("origin")
    if origin is not None and not is_own_origin(origin, handshake):
        raise WatchRefused(Close.NOT_ALLOWED, "Pages of another origin may not watch jobs here.")
    access, reason = None, "Give an API key, a ticket, or log in."
    if ticket := handshake.value("ticket"):
        access, reason = by_ticket(ticket, handshake.job_id), "The ticket is expired, or not for this job."
    elif key := handshake.bearer:
        access, reason = by_key(key), "The API key is unknown, expired or revoked."
    elif session := handshake.session:
        if origin is None:
            raise WatchRefused(Close.NOT_ALLOWED, "Only pages may use a session; programs use an API key.")
        access, reason = by_session(session, handshake.job_id), "The session has ended; log in again."
    if access is None:
        raise WatchRefused(Close.NOT_AUTHENTICATED, reason)
    return access


def _authorize(handshake: Handshake) -> tuple[WatchAccess, Job]:
    access = authenticate(handshake)
    job = Job.objects.only("pk", "public_id").filter(tenant_id=access.tenant_id, public_id=handshake.job_id).first()
    if job is None:
        raise _UNKNOWN
    return access, job


async def watch(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """ASGI application that streams one job."""
    if (await receive())["type"] != "websocket.connect":
        return
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    sender = asyncio.create_task(_serve(scope, send))
    reader = asyncio.create_task(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({sender, reader}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sender, reader):
            task.cancel()
        await asyncio.gather(sender, reader, return_exceptions=True)


async def _wait_for_disconnect(receive: ASGIReceiveCallable) -> None:
    # Messages of the viewer are ignored.
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def refuse(scope: Any, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """ASGI application of every other path: closes before accepting, which HTTP reports as 403."""
    await send({"type": "websocket.close", "code": int(Close.UNKNOWN_JOB), "reason": "There is no such address."})


async def _serve(scope: Any, send: ASGISendCallable) -> None:
    end = WatchRefused(Close.END, "The job is over.")
    try:
        handshake = Handshake.from_scope(scope)
        after = after_of(handshake)
        access, job = await in_reader(lambda: _authorize(handshake))
        await _send_events(access, job, after, send)
    except WatchRefused as refusal:
        end = refusal
    except JobGone:
        end = _UNKNOWN
    except ServerStops:
        end = _RESTARTS
    except DatabaseError as error:
        log.warning("stream.cut", path=scope["path"], error=str(error))
        end = _UNAVAILABLE
    await send({"type": "websocket.close", "code": int(end.code), "reason": end.reason})


async def _send_events(access: WatchAccess, job: Job, after: int, send: ASGISendCallable) -> None:
    stream = hub().follow(job.pk, job.public_id, after)
    with access_monitor().watching(access):
        async with aclosing(stream) as news:  # type: ignore[type-var]  # a generator
            async for item in news:
                if not access_monitor().is_valid(access):
                    raise _ENDED
                await send({"type": "websocket.send", "bytes": None, "text": item.websocket})
