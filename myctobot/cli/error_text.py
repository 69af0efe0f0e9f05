"""Text of a refused request: the API's own sentence, with its fields and the options that set them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from myctobot.cli.config import Config
from myctobot.cli.errors import RequestRefused

# Option of the client by the field of the API that it sets.
OPTIONS: Final[Mapping[str, str]] = {
    "task.prompt": "--prompt",
    "task.repo_url": "--repo",
    "task.repo_token": "--repo-token-secret",
    "task.branch": "--branch",
    "task.base_branch": "--base-branch",
    "task.issue_key": "--issue-key",
    "context.additional_instructions": "--instructions",
    "capabilities": "--capability",
    "anthropic_api_key": "--anthropic-key-secret",
    "repo_token": "--repo-token-secret",
    "priority": "--priority",
    "timeout_s": "--timeout-s",
    "no_output_timeout_s": "--no-output-timeout-s",
    "queue_timeout_s": "--queue-timeout-s",
    "not_before": "--not-before",
    "retry.max_attempts": "--retry",
    "retry.on": "--retry-on",
    "concurrency.key": "--concurrency-key",
    "concurrency.limit": "--concurrency-limit",
    "max_turns": "--max-turns",
    "Idempotency-Key": "--idempotency-key",
    "status": "--status",
    "limit": "--limit",
    "Last-Event-ID": "--after",
}


def refusal_error(answer: httpx.Response, config: Config) -> RequestRefused:
    """Return the error for an answer with a status of 4xx."""
    error = _error_object(answer)
    if error is None:
        return RequestRefused(
            f"{config.url} answered with status {answer.status_code}, but it is not MyCTOBot's API. "
            f"The URL comes from: {config.url_source}.",
            answer.status_code,
        )
    lines = [f"{error['message']} ({error.get('code', answer.status_code)})", *_field_lines(error)]
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        lines.append(f"The key comes from: {config.key_source}.")
    return RequestRefused("\n".join(lines), answer.status_code)


def is_queue_full(answer: httpx.Response) -> bool:
    """Tell whether the tenant has reached its limit of waiting jobs, which a few seconds do not change."""
    error = _error_object(answer)
    return error is not None and error.get("code") == "queue_limit_reached"


def _error_object(answer: httpx.Response) -> dict[str, Any] | None:
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return None
    return error if isinstance(error, dict) and isinstance(error.get("message"), str) else None


def _field_lines(error: Mapping[str, Any]) -> list[str]:
    fields = error.get("fields")
    if not isinstance(fields, dict):
        return []
    problems = [
        (str(name), str(text))
        for name, texts in fields.items()
        for text in (texts if isinstance(texts, list) else [texts])
    ]
    if len(problems) == 1 and problems[0][0] not in OPTIONS:
        # The sentence already names this field.
        return []
    return [f"  {OPTIONS.get(_list_field(name), name)}: {text}" for name, text in problems]


def _list_field(name: str) -> str:
    """Return the list field of an item such as ``capabilities[0]``."""
    return name.partition("[")[0]
