from __future__ import annotations

from typing import Any

import pytest

from myctobot.cli.sequence import Gap, check_end, number_after


def event(seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "log.line", "data": {}}


def mark(first_seq: Any, seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "log.dropped", "data": {"first_seq": first_seq}}


@pytest.mark.parametrize(
    ("found", "last", "expected"),
    [
        (event(1), 0, 1),
        (event(8), 7, 8),
        (event(7), 7, None),
        (event(1), 7, None),
        (mark(8, 500), 7, 500),
        (mark(3, 500), 7, 500),
        (mark(1, 500), 0, 500),
        (mark(8, 8), 7, 8),
        (mark(1, 7), 7, None),
    ],
)
def test_what_follows_is_taken_and_what_came_already_is_not(
    found: dict[str, Any], last: int, expected: int | None
) -> None:
    assert number_after(found, last) == expected


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (event(9), 7),
        (event(2), 0),
        (mark(9, 500), 7),
        (mark(None, 500), 7),
        ({"seq": 500, "kind": "log.dropped", "data": []}, 7),
        ({"kind": "log.line", "data": {}}, 7),
        ({"seq": "8", "kind": "log.line", "data": {}}, 7),
    ],
)
def test_what_leaves_a_gap_or_is_no_event_is_refused(found: dict[str, Any], last: int) -> None:
    with pytest.raises(Gap):
        number_after(found, last)


def test_an_end_tells_the_status() -> None:
    assert check_end({"kind": "end", "data": {"count": 5, "status": "failed"}}, 5) == "failed"


@pytest.mark.parametrize(
    "data",
    [{"count": 6, "status": "failed"}, {"count": 4, "status": "failed"}, {"count": 5, "status": "running"}, {}, None],
)
def test_an_end_that_does_not_count_what_came_is_refused(data: Any) -> None:
    with pytest.raises(Gap):
        check_end({"kind": "end", "data": data}, 5)
