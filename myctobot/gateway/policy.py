"""Models, betas and server-side features that jobs may use; pure.

A server-side feature lets the provider fetch addresses or run programs for the agent, past its shard's egress list.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Final

from myctobot.gateway.errors import NotPermitted

DEFAULT_MODELS: Final = ("claude-*",)
# Those of Claude Code's CLI. Betas that let the provider fetch, store files or switch models are not among them.
DEFAULT_BETAS: Final = (
    "advanced-tool-use-*",
    "afk-mode-*",
    "auto-mode-classifier-*",
    "cache-diagnosis-*",
    "claude-code-*",
    "context-1m-*",
    "context-hint-*",
    "context-management-*",
    "dangerous-tool-use-*",
    "effort-*",
    "extended-cache-ttl-*",
    "fine-grained-tool-streaming-*",
    "interleaved-thinking-*",
    "mid-conversation-system-*",
    "mid-conversation-tool-changes-*",
    "output-128k-*",
    "per-turn-control-*",
    "prompt-caching-*",
    "redact-thinking-*",
    "request-tags-*",
    "structured-outputs-*",
    "task-budgets-*",
    "thinking-*",
    "timing-*",
    "token-counting-*",
    "token-efficient-tools-*",
    "tool-examples-*",
    "tool-provenance-*",
    "tool-search-tool-*",
)
# The agent itself runs these tools, or they only search the tools of the request.
DEFAULT_TOOLS: Final = ("custom", "bash_*", "computer_*", "memory_*", "text_editor_*", "tool_search_tool_*")
# Content that the request itself contains.
DEFAULT_SOURCES: Final = ("base64", "text", "content")


class FeatureKind(Enum):
    """Part of a request that a policy allows or refuses."""

    TOOL = "tool"
    SOURCE = "source"
    MCP_SERVERS = "mcp_servers"
    CONTAINER = "container"


@dataclass(frozen=True)
class Feature:
    """Feature that a request asks for.

    Attributes:
        kind: what it is.
        field: its place in the body, such as ``tools.0.type``.
        value: the type of a tool or a source.
    """

    kind: FeatureKind
    field: str
    value: str = ""


@dataclass(frozen=True)
class CallPolicy:
    """Allow-lists of patterns such as ``claude-*``.

    Attributes:
        models: names of models.
        betas: values of the header ``anthropic-beta``.
        tools: types of tools.
        sources: types of the sources of images and documents.
        remote_mcp: whether the provider may call MCP servers.
    """

    models: tuple[str, ...] = DEFAULT_MODELS
    betas: tuple[str, ...] = DEFAULT_BETAS
    tools: tuple[str, ...] = DEFAULT_TOOLS
    sources: tuple[str, ...] = DEFAULT_SOURCES
    remote_mcp: bool = False

    def check_betas(self, header: str) -> None:
        """Check the values of a header.

        Raises:
            NotPermitted: a beta is not allowed.
        """
        for beta in filter(None, (part.strip() for part in header.split(","))):
            if not _matches(beta, self.betas):
                raise NotPermitted(f"anthropic-beta: {beta[:100]!r} is not among the allowed betas (GATEWAY_BETAS)")

    def check_model(self, model: str) -> None:
        """Check the model of a request.

        Raises:
            NotPermitted: it is not allowed.
        """
        if not _matches(model, self.models):
            raise NotPermitted(f"model: {model!r} is not among the allowed models (GATEWAY_MODELS)")

    def check_features(self, features: Iterable[Feature]) -> None:
        """Check the features of a request.

        Raises:
            NotPermitted: one of them is not allowed; the sentence names its field.
        """
        for feature in features:
            problem = self._problem(feature)
            if problem:
                raise NotPermitted(f"{feature.field}: {problem}")

    def _problem(self, feature: Feature) -> str | None:
        if feature.kind is FeatureKind.MCP_SERVERS:
            return None if self.remote_mcp else "remote MCP servers are not allowed (GATEWAY_REMOTE_MCP)"
        if feature.kind is FeatureKind.CONTAINER:
            runs_code = any(pattern.startswith("code_execution") for pattern in self.tools)
            return None if runs_code else "containers need a tool code_execution_* that is allowed (GATEWAY_TOOLS)"
        if feature.kind is FeatureKind.SOURCE:
            allowed = _matches(feature.value, self.sources)
            return None if allowed else f"{feature.value!r} is not among the allowed sources (GATEWAY_SOURCES)"
        if feature.value == "mcp_toolset" and self.remote_mcp:
            return None
        allowed = _matches(feature.value, self.tools)
        return None if allowed else f"{feature.value!r} is not among the allowed types of tools (GATEWAY_TOOLS)"


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
