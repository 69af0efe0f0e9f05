"""Server for the client's tests: it answers without a network, and its streams break where the test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from myctobot.cli.api import Api
from myctobot.cli.config import Config

KEY = "mctb_canary_of_the_client"
URL = "http://server.example"
JOB_ID = "job_00000000000000000001"

Handler = Callable[[httpx.Request], httpx.Response]


class Notifications(list[str]):
    """Sentences that the client printed."""

    def __call__(self, sentence: str) -> None:
        self.append(sentence)


def api_of(handler: Handler, notifications: Notifications | None = None, url: str = URL) -> Api:
    return Api(
        Config(url, "--url", KEY, "MYCTOBOT_API_KEY"),
        notifications if notifications is not None else Notifications(),
        transport=httpx.MockTransport(handler),
        pause=lambda seconds: None,
    )


def job(**more: Any) -> dict[str, Any]:
    """Return a job as the API returns it."""
    return {
        "id": JOB_ID,
        "status": "completed",
        "phase": "",
        "waiting": None,
        "task": {"type": "prompt", "prompt": "Fix it.\nPlease."},
        "capabilities": ["filesystem", "git"],
        "result": None,
        "error": None,
        "usage": None,
        "cancel_requested_at": None,
        "attempts": [],
        "events_count": 3,
        "created_at": "2030-01-01T12:00:00+00:00",
        "started_at": None,
        "finished_at": None,
        **more,
    }


def refusal(status: int, code: str, message: str, **more: Any) -> httpx.Response:
    error = {"code": code, "message": message, "retryable": False, **more}
    return httpx.Response(status, json={"error": error})


def numbered(seq: int, kind: str = "log.line", **data: Any) -> bytes:
    """Return an event on the wire."""
    event = {
        "seq": seq,
        "at": "2030-01-01T12:00:01+00:00",
        "kind": kind,
        "data": data or {"source": "git", "text": str(seq)},
    }
    return f"id: {seq}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode()


def events(*numbers: int) -> bytes:
    return b"".join(numbered(seq) for seq in numbers)


def end(count: int, status: str = "completed") -> bytes:
    return f"event: end\ndata: {json.dumps({'kind': 'end', 'data': {'count': count, 'status': status}})}\n\n".encode()


def stream(*pieces: bytes, breaks: Exception | None = None) -> httpx.Response:
    """Return a stream of the server, which ends or breaks after these pieces."""
    body = _Pieces((b"retry: 1000\n\n", *pieces), breaks)
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=body)


def broken(*pieces: bytes) -> httpx.Response:
    return stream(*pieces, breaks=httpx.ReadError("the connection broke"))


def silent(*pieces: bytes) -> httpx.Response:
    """Return a stream that breaks in the way of httpx after a long silence."""
    return stream(*pieces, breaks=httpx.ReadTimeout("timed out"))


class _Pieces(httpx.SyncByteStream):
    def __init__(self, pieces: tuple[bytes, ...], breaks: Exception | None) -> None:
        self._pieces = pieces
        self._breaks = breaks

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._breaks:
            raise self._breaks
