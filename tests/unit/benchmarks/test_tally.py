"""What a viewer of a benchmark saw."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime

import pytest

from tests.benchmarks.audience import NotExact, Sight
from tests.benchmarks.tally import Seen, Tally, from_json, lag_percentile, lag_spread, to_json

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
def test_only_each_number_once_in_order_is_exact(
    messages: list[list[int]], events: int, repeats: int, gaps: int
) -> None:
    tally = Tally(Counter())
    for numbers in messages:
        assert not tally.take(message(*numbers), MADE)
    assert tally.take(END, MADE)
    seen = tally.seen
    assert (seen.events, seen.repeats, seen.gaps, seen.last, seen.count) == (events, repeats, gaps, 3, 3)
    assert seen.is_exactly(3) is (repeats == gaps == 0)


def test_without_the_end_nothing_is_exact() -> None:
    tally = Tally(Counter())
    tally.take(message(1, 2, 3), MADE)
    assert not tally.seen.is_exactly(3)


def test_frames_of_an_event_stream_count_as_well() -> None:
    tally = Tally(Counter())
    frames = "\n\n".join(f"id: {seq}\nevent: log.line\ndata: {event(seq)}" for seq in (1, 2, 3))
    assert tally.take(frames.encode() + b"\n\n" + END, MADE)
    assert tally.seen.is_exactly(3)


def test_a_lag_runs_from_the_making_to_the_coming() -> None:
    lags: Counter[int] = Counter()
    Tally(lags).take(message(1, 2), MADE + 0.25)
    assert lag_spread(lags) == {"n": 2, "p50": 250.0, "p99": 250.0, "max": 250.0}


def test_history_is_not_late() -> None:
    lags: Counter[int] = Counter()
    tally = Tally(lags, since=MADE + 1)
    tally.take(f"[{event(1)},{event(2, MADE + 2)}]".encode(), MADE + 2.5)
    assert tally.seen.events == 2
    assert lag_spread(lags) == {"n": 1, "p50": 500.0, "p99": 500.0, "max": 500.0}


@pytest.mark.parametrize(("percent", "ms"), [(50, 1.0), (98, 1.0), (99, 9.0), (100, 9.0)])
def test_a_percentile_of_lags_is_one_of_them(percent: float, ms: float) -> None:
    assert lag_percentile({90: 2, 10: 98}, percent) == ms


def test_no_lags_have_no_percentile() -> None:
    assert math.isnan(lag_percentile({}, 99))


def test_what_was_seen_comes_whole_out_of_another_process() -> None:
    seen, lags = [Seen(events=3, last=3, count=3, last_at=MADE), Seen()], Counter({12: 3, -1: 1})
    assert from_json(json.loads(json.dumps(to_json(seen, lags)))) == (seen, lags)


def test_one_viewer_that_missed_something_spoils_all() -> None:
    whole = Seen(events=3, last=3, count=3)
    Sight([whole, whole], Counter()).check_exact([3, 3])
    with pytest.raises(NotExact, match="1 of 2 viewers"):
        Sight([whole, Seen(events=2, gaps=1, last=3, count=3)], Counter()).check_exact([3, 3])
