"""Events on their way to viewers, encoded once for any number of viewers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property  # noqa: TID251  # only the thread of the event loop uses batches

from jobs.events.encoding import EventBlock, head
from myctobot.contract.jobs import EventKind


@dataclass(frozen=True, eq=False)
class Batch:
    """Consecutive events with their wire formats, which are built when a viewer first needs them."""

    events: EventBlock

    @property
    def last_seq(self) -> int:
        return self.events.last_seq

    @cached_property
    def sse(self) -> bytes:
        """Return the events as Server-Sent Events (the HTML standard's text/event-stream); ``id`` is the number."""
        return "".join(map(_frame, self.events.lines)).encode()

    @cached_property
    def websocket(self) -> str:
        """Return the events as one text message."""
        return f'{{"events":[{",".join(self.events.lines)}]}}'

    def after(self, seq: int) -> Batch:
        """Return the part after number ``seq``."""
        return self if seq < self.events.first_seq else Batch(self.events.after(seq))


@dataclass(frozen=True)
class End:
    """End of a job with ``count`` events."""

    count: int
    status: str

    @property
    def line(self) -> str:
        data = {"count": self.count, "status": self.status}
        return json.dumps({"kind": EventKind.END.value, "data": data}, separators=(",", ":"))

    @property
    def sse_id(self) -> int:
        """Return an id after all events, so that a client that reconnects with it is known to have the end."""
        return self.count + 1

    @property
    def sse(self) -> bytes:
        return f"id: {self.sse_id}\nevent: {EventKind.END.value}\ndata: {self.line}\n\n".encode()

    @property
    def websocket(self) -> str:
        return f'{{"events":[{self.line}]}}'


@dataclass(frozen=True)
class StreamHeartbeat:
    """Message without events. It shows that the connection works, because proxies close silent connections."""

    # Without an empty line, after which some clients return an event without data.
    sse = b": still here\n"
    websocket = '{"events":[]}'


def _frame(line: str) -> str:
    seq, kind = head(line)
    return f"id: {seq}\nevent: {kind}\ndata: {line}\n\n"
