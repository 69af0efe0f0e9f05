from __future__ import annotations

import pytest

from workers.git.path_changes import PathChange, parse_links, parse_raw, skipped_removals

SHA, ZERO = "a" * 40, "0" * 40


def removed(path: str) -> PathChange:
    return PathChange("100644", "000000", SHA, ZERO, path)


def added(path: str) -> PathChange:
    return PathChange("000000", "100644", ZERO, SHA, path)


def test_raw_differences_are_read_with_any_name() -> None:
    text = f":100644 000000 {SHA} {ZERO} D\0a\n:b\0:000000 100644 {ZERO} {SHA} A\0\tc\0"
    assert parse_raw(text) == [removed("a\n:b"), added("\tc")]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"160000 {SHA} 0\tvendor/a\nb\x00100644 {SHA} 0\tx\0", id="the index"),
        pytest.param(f"160000 commit {SHA}\tvendor/a\nb\x00100644 blob {SHA}\tx\0", id="a tree"),
    ],
)
def test_links_are_read_from_both_listings(text: str) -> None:
    assert parse_links(text) == {"vendor/a\nb": SHA}


def test_only_skipped_paths_whose_place_is_free_are_taken_back() -> None:
    changes = [removed("a"), removed("b"), removed("c"), added("c/new"), removed("d/e"), added("d"), removed("f/g")]
    skipped = ["a", "c", "d/e", "f/g", "not/in/the/changes"]
    assert [change.path for change in skipped_removals(changes, skipped)] == ["a", "f/g"]
