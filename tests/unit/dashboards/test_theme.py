from __future__ import annotations

import re
from importlib import import_module

from myctobot.env import BASE_DIR

CSS = BASE_DIR / "shards/static/shards/theme.css"


def test_the_theme_has_every_colour_of_unfold() -> None:
    # The package has no types.
    colours = import_module("unfold.settings").CONFIG_DEFAULTS["COLORS"]
    expected = {f"--color-{name}-{weight}" for name, all_of in colours.items() for weight in all_of}
    found = set(re.findall(r"^  (--[\w-]+):", CSS.read_text(), re.MULTILINE))
    assert found == {*expected, "--border-radius"}
