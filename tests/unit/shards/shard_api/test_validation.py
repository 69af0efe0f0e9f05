"""What shards send is checked field by field, and all that is wrong is said at once."""

from __future__ import annotations

from typing import Any

import pytest

from myctobot.errors import InvalidRequest
from shards.shard_api.validation import Shape, shape_of


def problems(value: Any, read: str, *bounds: Any) -> dict[str, list[str]]:
    shape = Shape(value)
    getattr(shape, read)("x", *bounds)
    return shape.problems


@pytest.mark.parametrize(
    ("read", "bounds", "good"),
    [
        ("whole", (1, 5), 1),
        ("whole", (1, 5), 5),
        ("whole", (), 10**30),
        ("number", (0, 1), 0.5),
        ("number", (0, 1), 1),
        ("text", (3,), "abc"),
        ("text", (3,), "äöü"),
        ("one_of", (("a", "b"),), "b"),
        ("truth", (), False),
        ("texts", (2, 3), ["abc", "d"]),
        ("texts", (2, 3), []),
        ("object", (), {}),
    ],
)
def test_what_is_taken(read: str, bounds: tuple[Any, ...], good: Any) -> None:
    shape = Shape({"x": good})
    assert getattr(shape, read)("x", *bounds) == good
    assert not shape.problems


@pytest.mark.parametrize(
    ("read", "bounds", "bad"),
    [
        ("whole", (1, 5), 0),
        ("whole", (1, 5), 6),
        ("whole", (), True),
        ("whole", (), 1.0),
        ("whole", (), "1"),
        ("whole", (), None),
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
        ("truth", (), 1),
        ("texts", (2, 3), ["a", "b", "c"]),
        ("texts", (2, 3), ["abcd"]),
        ("texts", (2, 3), [1]),
        ("texts", (2, 3), "a"),
        ("object", (), []),
    ],
)
def test_what_is_refused(read: str, bounds: tuple[Any, ...], bad: Any) -> None:
    assert list(problems({"x": bad}, read, *bounds)) == ["x"]


@pytest.mark.parametrize("read", ["whole", "truth", "object"])
def test_what_is_missing(read: str) -> None:
    assert problems({}, read) == {"x": ["This field is required."]}


def test_everything_that_is_wrong_is_said_at_once_with_its_place() -> None:
    shape = Shape({"a": 0, "b": {"c": "long"}})
    shape.whole("a", 1)
    inner = shape.shape("b")
    inner.text("c", 3)
    inner.truth("d")
    with pytest.raises(InvalidRequest) as raised:
        shape.done()
    assert set(raised.value.fields) == {"a", "b.c", "b.d"}


@pytest.mark.parametrize("value", [None, [], "text", 5])
def test_a_request_that_is_no_object(value: Any) -> None:
    with pytest.raises(InvalidRequest) as raised, shape_of(value):
        pass
    assert set(raised.value.fields) == {"request"}
