from __future__ import annotations

import pytest

from myctobot.contract.names import is_slug
from shards.inventory.capabilities import DESCRIPTIONS, describe


@pytest.mark.parametrize("slug", DESCRIPTIONS)
def test_each_is_one_sentence_about_what_the_agent_gets(slug: str) -> None:
    sentence = describe(slug)
    assert is_slug(slug)
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_custom_capability_has_a_neutral_description() -> None:
    assert describe("mainframe") == "Custom capability “mainframe” of your operators."
