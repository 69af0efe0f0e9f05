from __future__ import annotations

import pytest

from workers.errors import JobError
from workers.git.remote import Listing, check_branch_available, parent_names, parse_listing

A, B = "a" * 40, "b" * 40


def test_a_listing_has_the_default_branch_and_the_requested_branches() -> None:
    text = f"ref: refs/heads/trunk\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/trunk\n{B}\trefs/heads/feature/x\n"
    assert parse_listing(text) == Listing("trunk", {"trunk": A, "feature/x": B})


def test_an_empty_remote_has_nothing() -> None:
    assert parse_listing("") == Listing(None, {})


def test_names_have_any_character_that_git_allows_and_objects_either_format() -> None:
    long = "c" * 64
    text = f"ref: refs/heads/wide\u3000\u2028\u0085\tHEAD\n{long}\tHEAD\n{long}\trefs/heads/wide\u3000\u2028\u0085\n"
    name = "wide\u3000\u2028\u0085"
    assert parse_listing(text) == Listing(name, {name: long}, "sha256")
    assert parse_listing(f"{long}\tHEAD\n").object_format == "sha256"


def test_refs_with_similar_names_are_ignored() -> None:
    # ls-remote matches the end of a name, so it also lists mirrored refs of a fork.
    assert parse_listing(f"{A}\trefs/pull/refs/heads/main\nnonsense\nx\trefs/heads/main\n") == Listing(None, {})


def test_the_parents_of_a_branch_are_all_its_prefixes() -> None:
    assert (parent_names("a/b/c"), parent_names("a")) == (["a", "a/b"], [])


@pytest.mark.parametrize("other", ["a", "a/b", "a/b/c/d"])
def test_a_branch_above_or_below_another_is_refused(other: str) -> None:
    with pytest.raises(JobError, match=f"'a/b/c' cannot be created: the repository has a branch '{other}'") as caught:
        check_branch_available("a/b/c", ["main", other])
    assert caught.value.code == "branch_conflict"


def test_sibling_branches_and_the_branch_itself_are_no_conflict() -> None:
    check_branch_available("a/b/c", ["main", "a/b/c", "a/b/cd", "a/bc", "a/b/d/c"])
