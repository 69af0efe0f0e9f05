"""Options of the demo, read from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from myctobot.demo.errors import DemoFailed
from myctobot.stack.environment import BASE
from myctobot.stack.plan import CHECKOUT

UPSTREAMS = ("scripted", "anthropic")


@dataclass(frozen=True)
class DemoOptions:
    """Options of the demo.

    Attributes:
        root: folder of everything that the demo writes.
        upstream: upstream of the gateway, scripted or anthropic.
        anthropic_api_key: key that is sent only with the job; None for the scripted model.
        environ: small environment of the stack.
        allow_unsandboxed: run the agent without a sandbox where bubblewrap does not work.
    """

    root: Path
    upstream: str
    anthropic_api_key: str | None = field(repr=False)
    environ: Mapping[str, str] = field(repr=False)
    allow_unsandboxed: bool = False

    @property
    def is_scripted(self) -> bool:
        return self.upstream == "scripted"


def myctobot_home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("MYCTOBOT_HOME") or CHECKOUT / ".myctobot").resolve()


def read_options(environ: Mapping[str, str]) -> DemoOptions:
    """Read the options; a key in the environment is used only when DEMO_UPSTREAM requests it.

    Raises:
        DemoFailed: a variable is invalid, or the key is missing.
    """
    upstream = environ.get("DEMO_UPSTREAM") or "scripted"
    if upstream not in UPSTREAMS:
        raise DemoFailed(f"DEMO_UPSTREAM is '{upstream}'; it must be scripted (the default) or anthropic.")
    key = None
    passed = {name: environ[name] for name in BASE if name in environ}
    if upstream == "anthropic":
        key = environ.get("ANTHROPIC_API_KEY") or None
        if key is None:
            raise DemoFailed("DEMO_UPSTREAM=anthropic needs a key; set ANTHROPIC_API_KEY.")
        if base_url := environ.get("ANTHROPIC_BASE_URL"):
            passed["ANTHROPIC_BASE_URL"] = base_url
    return DemoOptions(
        root=myctobot_home(environ),
        upstream=upstream,
        anthropic_api_key=key,
        environ={**passed, "GATEWAY_UPSTREAM": upstream},
        allow_unsandboxed=environ.get("DEMO_ALLOW_UNSANDBOXED") == "1",
    )
