"""Parser of autoscaling conditions: results and positions of errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.autoscaling.expressions import (
    MAX_DEPTH,
    MAX_LENGTH,
    MEASURES,
    ConditionError,
    Kind,
    read_condition,
    read_duration,
)

CALM: dict[str, float] = dict.fromkeys(MEASURES, 0)


@pytest.mark.parametrize(
    ("text", "measured", "holds"),
    [
        ("avg_queue_wait > 30s AND all_shards_at_capacity", {"avg_queue_wait": 31, "all_shards_at_capacity": 1}, True),
        ("avg_queue_wait > 30s AND all_shards_at_capacity", {"avg_queue_wait": 31}, False),
        ("avg_queue_wait > 30s AND all_shards_at_capacity", {"all_shards_at_capacity": 1}, False),
        ("shard_idle > 30m AND shard_count > min_shards", {"shard_idle": 1801, "shard_count": 3}, True),
        ("shard_idle > 30m AND shard_count > min_shards", {"shard_idle": 1801, "shard_count": 0}, False),
        ("shard_idle >= 30m", {"shard_idle": 1800}, True),
        ("1.5h < shard_idle", {"shard_idle": 5401}, True),
        ("utilisation >= 80%", {"utilisation": 80}, True),
        ("free_slots == 0", {}, True),
        ("free_slots != 0", {}, False),
        ("waiting_jobs <= 3", {"waiting_jobs": 4}, False),
        ("NOT all_shards_at_capacity", {}, True),
        ("NOT NOT all_shards_at_capacity", {}, False),
        # AND has a higher precedence than OR.
        ("free_slots == 0 OR free_slots == 0 AND waiting_jobs > 0", {}, True),
        ("(free_slots == 0 OR free_slots == 0) AND waiting_jobs > 0", {}, False),
        ("  max_queue_wait>1d  ", {"max_queue_wait": 86401}, True),
    ],
)  # fmt: skip
def test_texts_of_conditions(text: str, measured: dict[str, float], holds: bool) -> None:
    assert read_condition(text).holds({**CALM, **measured}) is holds


def test_it_names_the_measures_that_it_uses() -> None:
    condition = read_condition("shard_idle > 30m AND (shard_count > min_shards OR NOT all_shards_at_capacity)")
    assert condition.measures == {"shard_idle", "shard_count", "min_shards", "all_shards_at_capacity"}


@pytest.mark.parametrize(
    ("text", "word", "problem"),
    [
        ("", "", "missing"),
        ("avg_wait > 30s", "avg_wait", "no measure 'avg_wait'"),
        ("avg_queue_wait > 30", "30", "Is a count, and the other side is a duration. Write 30s"),
        ("avg_queue_wait > 30x", "x", "not a unit"),
        ("avg_queue_wait > shard_count", "shard_count", "Is a count"),
        ("utilisation > 5m", "5m", "Is a duration"),
        ("avg_queue_wait 30s", "30s", "compare it with"),
        ("avg_queue_wait", "", "compare it with"),
        ("avg_queue_wait >", "", "missing"),
        ("avg_queue_wait = 30s", "=", "compare it with"),
        ("free_slots == 0 and waiting_jobs > 1", "and", "AND or OR"),
        ("free_slots == 0 waiting_jobs > 1", "waiting_jobs", "AND or OR"),
        ("(free_slots == 0", "(", "not closed"),
        ("free_slots == 0)", ")", "AND or OR"),
        ("AND free_slots == 0", "AND", "missing"),
        ("free_slots == 0 AND", "", "missing"),
        ("free_slots == all_shards_at_capacity", "all_shards_at_capacity", "a yes or no"),
        ("__import__ == 1", "__import__", "no measure"),
        ("__import__('os')", "'", "not allowed here"),
        ("free_slots == 0; DROP TABLE", ";", "not allowed here"),
        ("(" * (MAX_DEPTH + 1) + "free_slots == 0", "(", "levels deep"),
        ("x" * (MAX_LENGTH + 1), "x", "at most"),
    ],
)
def test_an_error_marks_the_invalid_word(text: str, word: str, problem: str) -> None:
    with pytest.raises(ConditionError, match=problem) as caught:
        read_condition(text)
    error = caught.value
    assert text[error.at : error.at + error.length] == word
    line, pointer = error.marked_text().split("\n")
    assert line == text
    assert pointer.strip("^").isspace() or not pointer.strip("^")
    assert pointer.index("^") == error.at


words = st.sampled_from([*MEASURES, "AND", "OR", "NOT", "(", ")", ">", "30s", "2", "5%"])


@given(st.text(max_size=60) | st.lists(words).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        holds: object = read_condition(text).holds(CALM)
    except ConditionError as error:
        holds = 0 <= error.at <= len(text)
    assert isinstance(holds, bool)


@pytest.mark.parametrize(("text", "seconds"), [("30s", 30), ("5m", 300), ("1.5h", 5400), ("1d", 86400), (" 2m ", 120)])
def test_durations(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "5 m", "5m5s", "1e3s", "5M"])
def test_an_invalid_duration_is_refused(text: str) -> None:
    with pytest.raises(ConditionError, match="duration"):
        read_duration(text)


def test_every_measure_has_a_kind() -> None:
    assert set(MEASURES.values()) == set(Kind)
