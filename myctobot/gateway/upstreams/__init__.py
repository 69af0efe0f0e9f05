"""The upstreams by name; another one is added here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from myctobot.gateway.upstreams.anthropic import AnthropicUpstream
from myctobot.gateway.upstreams.base import Upstream
from myctobot.gateway.upstreams.scripted.script_files import load_plays
from myctobot.gateway.upstreams.scripted.upstream import ScriptedUpstream

UPSTREAMS: Final = ("scripted", "anthropic")


def build_upstream(name: str, *, plays: Path, anthropic_url: str) -> Upstream:
    """Build the upstream of that name.

    Raises:
        PlayFileError: the scripted upstream's plays are not valid.
        KeyError: there is no such upstream.
    """
    makers: dict[str, Callable[[], Upstream]] = {
        "scripted": lambda: ScriptedUpstream(load_plays(plays)),
        "anthropic": lambda: AnthropicUpstream(anthropic_url),
    }
    return makers[name]()
