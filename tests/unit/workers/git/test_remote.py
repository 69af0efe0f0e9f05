from __future__ import annotations

import pytest

from workers.errors import JobError
from workers.git.remote import Listing, check_room, parents, parse_listing

A, B = "a" * 40, "b" * 40


def test_a_listing_gives_the_default_branch_and_those_asked_for() -> None:
    text = f"ref: refs/heads/trunk\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/trunk\n{B}\trefs/heads/feature/x\n"
    assert parse_listing(text) == Listing("trunk", {"trunk": A, "feature/x": B})


def test_an_empty_remote_has_nothing() -> None:
    assert parse_listing("") == Listing(None, {})


def test_lookalikes_are_passed_over() -> None:
    # ls-remote matches the ends of names, so a fork's mirrored refs come along.
    assert parse_listing(f"{A}\trefs/pull/refs/heads/main\nnonsense\nx\trefs/heads/main\n") == Listing(None, {})


def test_a_branch_lies_below_each_of_its_parts_but_the_last() -> None:
    assert (parents("a/b/c"), parents("a")) == (["a", "a/b"], [])


@pytest.mark.parametrize("other", ["a", "a/b", "a/b/c/d"])
def test_a_branch_above_or_below_leaves_no_room(other: str) -> None:
    with pytest.raises(JobError, match=f"'a/b/c' cannot be created: the repository has a branch '{other}'") as caught:
        check_room("a/b/c", ["main", other])
    assert caught.value.code == "branch_conflict"


def test_neighbours_and_the_branch_itself_leave_room() -> None:
    check_room("a/b/c", ["main", "a/b/c", "a/b/cd", "a/bc", "a/b/d/c"])
