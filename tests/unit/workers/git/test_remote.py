from __future__ import annotations

from workers.git.remote import Listing, parse_listing

A, B = "a" * 40, "b" * 40


def test_a_listing_gives_the_default_branch_and_those_asked_for() -> None:
    text = f"ref: refs/heads/trunk\tHEAD\n{A}\tHEAD\n{A}\trefs/heads/trunk\n{B}\trefs/heads/feature/x\n"
    assert parse_listing(text) == Listing("trunk", {"trunk": A, "feature/x": B})


def test_an_empty_remote_has_nothing() -> None:
    assert parse_listing("") == Listing(None, {})


def test_lookalikes_are_passed_over() -> None:
    # ls-remote matches the ends of names, so a fork's mirrored refs come along.
    assert parse_listing(f"{A}\trefs/pull/refs/heads/main\nnonsense\nx\trefs/heads/main\n") == Listing(None, {})
