from __future__ import annotations

from typing import Any

import pytest

from myctobot.cli.sequence import SequenceGap, check_end, number_after


def event(seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "log.line", "data": {}}


def marker(first_seq: Any, seq: int) -> dict[str, Any]:
    return {"seq": seq, "kind": "log.dropped", "data": {"first_seq": first_seq}}


@pytest.mark.parametrize(
    ("found", "last", "expected"),
    [
        (event(1), 0, 1),
        (event(8), 7, 8),
        (event(7), 7, None),
        (event(1), 7, None),
        (marker(8, 500), 7, 500),
        (marker(3, 500), 7, 500),
        (marker(1, 500), 0, 500),
        (marker(8, 8), 7, 8),
        (marker(1, 7), 7, None),
    ],
)
def test_the_next_event_is_accepted_and_a_known_one_ignored(
    found: dict[str, Any], last: int, expected: int | None
) -> None:
    assert number_after(found, last) == expected


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (event(9), 7),
        (event(2), 0),
        (marker(9, 500), 7),
        (marker(None, 500), 7),
        ({"seq": 500, "kind": "log.dropped", "data": []}, 7),
        ({"kind": "log.line", "data": {}}, 7),
        ({"seq": "8", "kind": "log.line", "data": {}}, 7),
    ],
)
def test_a_gap_or_an_invalid_event_is_refused(found: dict[str, Any], last: int) -> None:
    with pytest.raises(SequenceGap):
        number_after(found, last)


def test_an_end_has_the_status() -> None:
    assert check_end({"kind": "end", "data": {"count": 5, "status": "failed"}}, 5) == "failed"


@pytest.mark.parametrize(
    "data",
    [{"count": 6, "status": "failed"}, {"count": 4, "status": "failed"}, {"count": 5, "status": "running"}, {}, None],
)
def test_an_end_with_a_wrong_count_is_refused(data: Any) -> None:
    with pytest.raises(SequenceGap):
        check_end({"kind": "end", "data": data}, 5)
