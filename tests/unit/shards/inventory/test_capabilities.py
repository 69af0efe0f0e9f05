from __future__ import annotations

import pytest

from myctobot.contract.jobs import is_slug
from shards.inventory.capabilities import DESCRIPTIONS, describe


@pytest.mark.parametrize("slug", DESCRIPTIONS)
def test_each_is_one_sentence_about_what_the_agent_gets(slug: str) -> None:
    sentence = describe(slug)
    assert is_slug(slug)
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_one_that_only_the_operators_know_promises_nothing() -> None:
    assert describe("mainframe") == "What the operators of your shards offer as “mainframe”."
