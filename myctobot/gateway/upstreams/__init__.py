"""Upstreams of the gateway by name; a new one is added here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from myctobot.gateway.upstreams.anthropic import AnthropicUpstream
from myctobot.gateway.upstreams.base import Upstream
from myctobot.gateway.upstreams.scripted.script_files import load_scripts
from myctobot.gateway.upstreams.scripted.upstream import ScriptedUpstream

UPSTREAMS: Final = ("scripted", "anthropic")


def build_upstream(name: str, *, scripts: Path, anthropic_url: str) -> Upstream:
    """Build the upstream with the given name.

    Raises:
        ScriptFileError: the scripts of the scripted upstream are not valid.
        KeyError: there is no such upstream.
    """
    builders: dict[str, Callable[[], Upstream]] = {
        "scripted": lambda: ScriptedUpstream(load_scripts(scripts)),
        "anthropic": lambda: AnthropicUpstream(anthropic_url),
    }
    return builders[name]()
