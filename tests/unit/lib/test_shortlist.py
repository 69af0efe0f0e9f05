from __future__ import annotations

from myctobot.lib.shortlist import MAX_NAMES, shortlist


def test_a_few_names_are_all_named_in_order() -> None:
    assert shortlist(["b", "a"]) == (["a", "b"], 0)


def test_the_others_are_counted() -> None:
    named, others = shortlist(f"{number:05}" for number in range(70_000))
    assert (named[0], len(named), others) == ("00000", MAX_NAMES, 70_000 - MAX_NAMES)
