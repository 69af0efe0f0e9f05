"""Validation of calls of shards: all problems are reported at once."""

from __future__ import annotations

from typing import Any

import pytest

from myctobot.errors import InvalidRequest
from shards.shard_api.validation import FieldReader, read_fields


def problems(value: Any, read: str, *bounds: Any) -> dict[str, list[str]]:
    reader = FieldReader(value)
    getattr(reader, read)("x", *bounds)
    return reader.problems


@pytest.mark.parametrize(
    ("read", "bounds", "good"),
    [
        ("integer", (1, 5), 1),
        ("integer", (1, 5), 5),
        ("integer", (), 10**30),
        ("number", (0, 1), 0.5),
        ("number", (0, 1), 1),
        ("text", (3,), "abc"),
        ("text", (3,), "äöü"),
        ("one_of", (("a", "b"),), "b"),
        ("boolean", (), False),
        ("texts", (2, 3), ["abc", "d"]),
        ("texts", (2, 3), []),
        ("object", (), {}),
    ],
)
def test_valid_values_are_read(read: str, bounds: tuple[Any, ...], good: Any) -> None:
    reader = FieldReader({"x": good})
    assert getattr(reader, read)("x", *bounds) == good
    assert not reader.problems


@pytest.mark.parametrize(
    ("read", "bounds", "bad"),
    [
        ("integer", (1, 5), 0),
        ("integer", (1, 5), 6),
        ("integer", (), True),
        ("integer", (), 1.0),
        ("integer", (), "1"),
        ("integer", (), None),
        ("number", (0, 1), 1.1),
        ("number", (0, 1), float("nan")),
        ("number", (0, 1), "nan"),
        ("number", (0, 1), True),
        ("text", (3,), ""),
        ("text", (3,), "abcd"),
        ("text", (3,), "a\x00b"),
        ("text", (3,), "\ud800"),
        ("text", (3,), 3),
        ("one_of", (("a", "b"),), "c"),
        ("one_of", (("a", "b"),), ["a"]),
        ("boolean", (), 1),
        ("texts", (2, 3), ["a", "b", "c"]),
        ("texts", (2, 3), ["abcd"]),
        ("texts", (2, 3), [1]),
        ("texts", (2, 3), "a"),
        ("object", (), []),
    ],
)
def test_what_is_refused(read: str, bounds: tuple[Any, ...], bad: Any) -> None:
    assert list(problems({"x": bad}, read, *bounds)) == ["x"]


@pytest.mark.parametrize("read", ["integer", "boolean", "object"])
def test_what_is_missing(read: str) -> None:
    assert problems({}, read) == {"x": ["This field is required."]}


def test_all_problems_are_raised_at_once_with_their_paths() -> None:
    reader = FieldReader({"a": 0, "b": {"c": "long"}})
    reader.integer("a", 1)
    inner = reader.nested("b")
    inner.text("c", 3)
    inner.boolean("d")
    with pytest.raises(InvalidRequest) as raised:
        reader.raise_problems()
    assert set(raised.value.fields) == {"a", "b.c", "b.d"}


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_a_request_that_is_no_object(value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised, read_fields(value):
        pass
    assert set(raised.value.fields) == {"request"}
