"""Reads Server-Sent Events, and takes a broken stream up again where it broke."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from jobs.contract import EventKind
from myctobot.demo.errors import DemoFailed

# The server writes a comment at least every 15 s, so a longer silence is a dead connection.
TIMEOUT = httpx.Timeout(10, read=30)
RECONNECTS = 10
RECONNECT_AFTER_S = 1.0


@dataclass
class Frame:
    """One event on the wire, as the HTML standard's text/event-stream has it."""

    id: str = ""
    data: list[str] = field(default_factory=list)


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Group lines into events; comments, and an event cut off at the end, are dropped."""
    frame = Frame()
    for line in lines:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if frame.data:
                yield frame
            frame = Frame()
        elif name == "id":
            frame.id = value
        elif name == "data":
            frame.data.append(value)


def follow(
    client: httpx.Client, path: str, pause: Callable[[float], None] = time.sleep, reconnects: int = RECONNECTS
) -> Iterator[dict[str, Any]]:
    """Yield a job's events, the ``end`` event last, over as many connections as it takes.

    Args:
        client: with the API's base URL and key.
        path: of the stream.
        pause: waits so many seconds before a new connection.
        reconnects: how many connections in a row may bring nothing new.

    Raises:
        DemoFailed: the stream cannot be had, or not any more.
    """
    last, fruitless = "", 0
    while fruitless <= reconnects:
        before = last
        try:
            with client.stream("GET", path, headers={"Last-Event-ID": last} if last else {}, timeout=TIMEOUT) as answer:
                answer.raise_for_status()
                for frame in frames(answer.iter_lines()):
                    event = json.loads("\n".join(frame.data))
                    last = frame.id or last
                    yield event
                    if event["kind"] == EventKind.END:
                        return
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500:
                raise DemoFailed(f"The stream was refused with status {error.response.status_code}.") from error
        except httpx.TransportError:
            pass
        fruitless = 0 if last != before else fruitless + 1
        pause(RECONNECT_AFTER_S)
    raise DemoFailed(f"The stream broke and could not be taken up again after {reconnects} attempts.")
