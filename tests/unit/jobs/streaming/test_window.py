"""Shared window: a viewer sees events 1..N exactly once, even when batches are lost."""

from __future__ import annotations

import json

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from jobs.events.encoding import EventBlock, head
from jobs.streaming.batch import Batch, End, StreamHeartbeat
from jobs.streaming.window import Window
from tests.unit.jobs.events.test_encoding import batch


def numbers(found: Batch | None) -> list[int]:
    return [head(line)[0] for line in found.events.lines] if found else []


def test_consecutive_batches_are_held() -> None:
    window = Window()
    assert window.add(batch(1, 3))
    assert window.add(batch(4, 4))
    assert numbers(window.after(0)) == [1, 2, 3]
    assert numbers(window.after(2)) == [3]
    assert numbers(window.after(3)) == [4]
    assert window.after(4) is None


def test_viewers_at_the_same_position_share_one_encoded_batch() -> None:
    window = Window()
    window.add(batch(1, 3))
    one, other = window.after(0), window.after(0)
    assert one is other
    assert one is not None
    assert one.sse is other.sse  # type: ignore[union-attr]  # the same batch


def test_known_events_are_skipped_and_overlaps_cut() -> None:
    window = Window()
    window.add(batch(1, 3))
    assert not window.add(batch(2, 3))
    assert window.add(batch(2, 5))
    assert numbers(window.after(3)) == [4, 5]


def test_viewers_before_a_gap_get_nothing_after_it() -> None:
    window = Window()
    window.add(batch(1, 3))
    window.add(batch(6, 7))
    assert [window.after(seq) for seq in (0, 2, 3, 4)] == [None] * 4
    assert numbers(window.after(5)) == [6, 7]
    assert window.last_seq == 7


def test_numbers_without_events_advance_the_window() -> None:
    window = Window()
    window.add(batch(1, 3))
    assert window.advance(9)
    assert not window.advance(9)
    assert window.last_seq == 9
    assert window.after(2) is None
    window.add(batch(10, 10))
    assert numbers(window.after(9)) == [10]


def test_the_oldest_batches_are_dropped_and_the_newest_stays() -> None:
    size = sum(map(len, batch(1, 1).lines))
    window = Window(max_bytes=2 * size)
    for seq in range(1, 6):
        window.add(batch(seq, seq))
    assert window.after(2) is None
    assert numbers(window.after(3)) == [4]
    assert window.bytes <= 2 * size
    large = EventBlock(6, 6, ("x" * 10 * size,))
    window.add(large)
    assert window.after(5) is not None


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from(["hint", "numbers", "lost", "twice"])), max_size=30),
    st.data(),
)
def test_a_viewer_sees_every_event_once_in_order(plan: list[tuple[int, str]], data: st.DataObject) -> None:
    window, stored = Window(max_bytes=600), list[EventBlock]()
    cursor, seen = data.draw(st.integers(0, 3)), []
    start = cursor
    for size, fate in plan:
        first = (stored[-1].last_seq if stored else 0) + 1
        stored.append(batch(first, first + size - 1))
        if fate == "numbers":
            window.advance(stored[-1].last_seq)
        elif fate != "lost":
            window.add(stored[-1])
        if fate == "twice":
            window.add(stored[-1])
        # The viewer reads at times of its own.
        while data.draw(st.booleans()) and (found := _next(window, stored, cursor)):
            seen += numbers(found)
            cursor = found.last_seq
    window.advance(stored[-1].last_seq if stored else 0)
    while found := _next(window, stored, cursor):
        seen += numbers(found)
        cursor = found.last_seq
    assert seen == list(range(start + 1, max(start, window.last_seq) + 1))


def _next(window: Window, stored: list[EventBlock], cursor: int) -> Batch | None:
    """Return the next batch by the hub's rule: from the window, else from PostgreSQL, which is the list here."""
    if found := window.after(cursor):
        return found
    if cursor < window.last_seq:
        return next(Batch(lines.after(cursor)) for lines in stored if lines.last_seq > cursor)
    return None


def test_both_wire_formats_of_a_batch() -> None:
    both = Batch(batch(1, 2))
    events = json.loads(both.websocket)["events"]
    frames = both.sse.decode().split("\n\n")[:-1]
    assert [event["seq"] for event in events] == [1, 2]
    assert [json.loads(frame.partition("data: ")[2]) for frame in frames] == events
    assert frames[0].splitlines()[:2] == ["id: 1", "event: log.line"]


@pytest.mark.parametrize("item", [End(5, "failed"), StreamHeartbeat()])
def test_end_and_heartbeat_have_no_number(item: End | StreamHeartbeat) -> None:
    assert '"seq"' not in item.sse.decode()
    events = json.loads(item.websocket)["events"]
    assert events == ([{"kind": "end", "data": {"count": 5, "status": "failed"}}] if isinstance(item, End) else [])


def test_the_end_has_an_id_after_that_of_the_last_event() -> None:
    assert End(5, "failed").sse.startswith(b"id: 6\nevent: end\n")


def test_a_heartbeat_is_no_event_without_data() -> None:
    first = Batch(batch(1, 1)).sse
    body = first + StreamHeartbeat.sse + StreamHeartbeat.sse + End(1, "failed").sse
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    found = [(event.id, json.loads(event.data)["kind"]) for event in EventSource(answer).iter_sse()]
    assert found == [("1", "log.line"), ("2", "end")]
