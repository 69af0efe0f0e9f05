"""Count of the events that a viewer of a benchmark received."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.benchmarks.audience import InexactDelivery, Observation
from tests.benchmarks.tally import Received, Tally, from_json, lag_percentile, lag_spread, to_json

MADE = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def event(seq: int, at: float = MADE) -> str:
    made = datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
    return json.dumps({"seq": seq, "at": made, "kind": "log.line", "data": {"text": f"line {seq}"}})


def message(*numbers: int) -> bytes:
    return f'{{"events":[{",".join(map(event, numbers))}]}}'.encode()


END = b'event: end\ndata: {"kind":"end","data":{"count":3,"status":"completed"}}'


@pytest.mark.parametrize(
    ("messages", "events", "repeats", "gaps"),
    [
        ([[1, 2, 3]], 3, 0, 0),
        ([[1], [2, 3]], 3, 0, 0),
        ([[1, 2], [2, 3]], 3, 1, 0),
        ([[1], [3]], 2, 0, 1),
        ([[2, 3]], 2, 0, 1),
        ([[1, 3], [2]], 2, 1, 1),
        ([[1, 2, 3], [1]], 3, 1, 0),
    ],
)
def test_a_stream_is_exact_only_with_each_number_once_in_order(
    messages: list[list[int]], events: int, repeats: int, gaps: int
) -> None:
    tally = Tally(Counter())
    for numbers in messages:
        assert not tally.add(message(*numbers), MADE)
    assert tally.add(END, MADE)
    seen = tally.seen
    assert (seen.events, seen.repeats, seen.gaps, seen.last, seen.count) == (events, repeats, gaps, 3, 3)
    assert seen.is_exactly(3) is (repeats == gaps == 0)


def test_a_stream_without_the_end_is_not_exact() -> None:
    tally = Tally(Counter())
    tally.add(message(1, 2, 3), MADE)
    assert not tally.seen.is_exactly(3)


def test_tally_counts_frames_of_an_event_stream() -> None:
    tally = Tally(Counter())
    frames = "\n\n".join(f"id: {seq}\nevent: log.line\ndata: {event(seq)}" for seq in (1, 2, 3))
    assert tally.add(frames.encode() + b"\n\n" + END, MADE)
    assert tally.seen.is_exactly(3)


def test_a_lag_is_the_time_from_creation_to_receipt() -> None:
    lags: Counter[int] = Counter()
    Tally(lags).add(message(1, 2), MADE + 0.25)
    assert lag_spread(lags) == {"n": 2, "p50": 250.0, "p99": 250.0, "max": 250.0}


def test_older_events_have_no_lag() -> None:
    lags: Counter[int] = Counter()
    tally = Tally(lags, since=MADE + 1)
    tally.add(f"[{event(1)},{event(2, MADE + 2)}]".encode(), MADE + 2.5)
    assert tally.seen.events == 2
    assert lag_spread(lags) == {"n": 1, "p50": 500.0, "p99": 500.0, "max": 500.0}


@pytest.mark.parametrize(("percent", "ms"), [(50, 1.0), (98, 1.0), (99, 9.0), (100, 9.0)])
def test_a_percentile_of_lags_is_one_of_the_lags(percent: float, ms: float) -> None:
    assert lag_percentile({90: 2, 10: 98}, percent) == ms


def test_the_percentile_of_no_lags_is_nan() -> None:
    assert math.isnan(lag_percentile({}, 99))


def test_from_json_restores_the_counts_of_to_json() -> None:
    seen, lags = [Received(events=3, last=3, count=3, last_at=MADE), Received()], Counter({12: 3, -1: 1})
    assert from_json(json.loads(json.dumps(to_json(seen, lags)))) == (seen, lags)


def test_check_exact_refuses_one_viewer_with_a_gap() -> None:
    whole = Received(events=3, last=3, count=3)
    Observation([whole, whole], Counter()).check_exact([3, 3])
    with pytest.raises(InexactDelivery, match="1 of 2 viewers"):
        Observation([whole, Received(events=2, gaps=1, last=3, count=3)], Counter()).check_exact([3, 3])
