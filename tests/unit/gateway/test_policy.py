from __future__ import annotations

import json
from typing import Any

import pytest

from myctobot.gateway.errors import NotPermitted
from myctobot.gateway.policy import CallPolicy
from myctobot.gateway.requests import parse_count_tokens

CLI_BETAS = (
    "claude-code-20250219,interleaved-thinking-2025-05-14,context-management-2025-06-27,"
    "thinking-token-count-2026-05-13,advanced-tool-use-2025-11-20"
)
LINK = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
FILE = {"type": "document", "source": {"type": "file", "file_id": "file_1"}}


def request(content: Any = "hi", **fields: Any) -> bytes:
    messages = [{"role": "user", "content": "first"}, {"role": "user", "content": content}]
    return json.dumps({"model": "claude-test", "messages": messages, **fields}).encode()


def problem(body: bytes, policy: CallPolicy | None = None) -> str | None:
    try:
        (policy or CallPolicy()).check_features(parse_count_tokens(body).features)
    except NotPermitted as error:
        return error.message
    return None


def test_what_the_cli_sends_is_allowed() -> None:
    policy = CallPolicy()
    policy.check_betas(CLI_BETAS)
    policy.check_betas("")
    policy.check_model("claude-opus-4-6")
    tools = [{"name": "Bash", "input_schema": {}, "defer_loading": True}, {"type": "custom", "name": "x"}]
    picture = {"type": "image", "source": {"type": "base64", "data": "aGk="}}
    result = {"type": "tool_result", "content": [picture, {"type": "text", "text": "{}"}]}
    assert problem(request([result], tools=tools, system=[{"type": "text", "text": "s"}], mcp_servers=[])) is None


@pytest.mark.parametrize("beta", ["files-api-2025-04-14", "mcp-client-2025-04-04", f"{CLI_BETAS}, fast-mode-2026"])
def test_another_beta_is_refused_by_name(beta: str) -> None:
    with pytest.raises(NotPermitted, match=rf"^anthropic-beta: '{beta.split(',')[-1].strip()}'.*GATEWAY_BETAS"):
        CallPolicy().check_betas(beta)


def test_another_model_is_refused_by_name() -> None:
    with pytest.raises(NotPermitted, match=r"^model: 'gpt-9'.*GATEWAY_MODELS"):
        CallPolicy().check_model("gpt-9")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (request(tools=[{"name": "a"}, {"type": "web_fetch_20250910"}]), "tools.1.type"),
        (request(tools=[{"type": "web_search_20250305"}]), "tools.0.type"),
        (request(tools=[{"type": "code_execution_20250825"}]), "tools.0.type"),
        (request(tools=[{"type": "mcp_toolset"}]), "tools.0.type"),
        (request(mcp_servers=[{"type": "url", "url": "https://example.org"}]), "mcp_servers"),
        (request(mcp_servers={"url": "x"}), "mcp_servers"),
        (request(container="c"), "container"),
        (request([{"type": "text", "text": "x"}, LINK]), "messages.1.content.1.source.type"),
        (request([FILE]), "messages.1.content.0.source.type"),
        (request([{"type": "container_upload", "file_id": "f"}]), "messages.1.content.0.file_id"),
        (request([{"type": "tool_result", "content": [LINK]}]), "messages.1.content.0.content.0.source.type"),
        (request([{"type": "tool_result", "content": LINK}]), "messages.1.content.0.content.source.type"),
        (
            request([{"type": "document", "source": {"type": "content", "content": [LINK]}}]),
            "messages.1.content.0.source.content.0.source.type",
        ),
        (request(system=[LINK]), "system.0.source.type"),
        (request([LINK]).replace(b'"source"', b'"\\u0073ource"'), "messages.1.content.0.source.type"),
        (request([LINK]).replace(b'"url"', b'"\\u0075rl"', 1), "messages.1.content.0.source.type"),
    ],
)
def test_what_lets_the_provider_fetch_is_refused_with_its_field(body: bytes, field: str) -> None:
    assert str(problem(body)).startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("body", "policy"),
    [
        (request(tools=[{"type": "web_search_20250305"}]), CallPolicy(tools=("web_search_*",))),
        (request([LINK]), CallPolicy(sources=("url",))),
        (request([{"type": "container_upload", "file_id": "f"}]), CallPolicy(sources=("file",))),
        (request(mcp_servers=[{"url": "x"}], tools=[{"type": "mcp_toolset"}]), CallPolicy(remote_mcp=True)),
        (request(container="c"), CallPolicy(tools=("code_execution_*",))),
    ],
)
def test_an_operator_can_allow_each(body: bytes, policy: CallPolicy) -> None:
    assert problem(body, policy) is None
