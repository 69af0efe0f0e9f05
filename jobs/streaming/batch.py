"""Events on their way to viewers: encoded once, whoever and how many look on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from jobs.events.encoding import Lines, head
from myctobot.contract.jobs import EventKind


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive events, with what goes over the wire for them; made when the first viewer asks for it."""

    events: Lines

    @property
    def last_seq(self) -> int:
        return self.events.last_seq

    @cached_property
    def sse(self) -> bytes:
        """As Server-Sent Events (the HTML standard's text/event-stream); ``id`` is the number."""
        return "".join(map(_frame, self.events.lines)).encode()

    @cached_property
    def websocket(self) -> str:
        """As one text message."""
        return f'{{"events":[{",".join(self.events.lines)}]}}'

    def after(self, seq: int) -> Batch:
        """What of it follows number ``seq``."""
        return self if seq < self.events.first_seq else Batch(self.events.after(seq))


@dataclass(frozen=True)
class End:
    """The job is over and has ``count`` events."""

    count: int
    status: str

    @property
    def line(self) -> str:
        data = {"count": self.count, "status": self.status}
        return json.dumps({"kind": EventKind.END.value, "data": data}, separators=(",", ":"))

    @property
    def sse(self) -> bytes:
        return f"event: {EventKind.END.value}\ndata: {self.line}\n\n".encode()

    @property
    def websocket(self) -> str:
        return f'{{"events":[{self.line}]}}'


@dataclass(frozen=True)
class Heartbeat:
    """Nothing new, and the line is alive: proxies end silent connections, and viewers doubt them."""

    sse = b": still here\n\n"
    websocket = '{"events":[]}'


def _frame(line: str) -> str:
    seq, kind = head(line)
    return f"id: {seq}\nevent: {kind}\ndata: {line}\n\n"
