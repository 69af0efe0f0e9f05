"""Checks of the parts of a request that the gateway needs. The upstream checks the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from myctobot.gateway.errors import BadRequest

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_MODEL_LENGTH = 200
MAX_TOKEN_LENGTH = 512


@dataclass(frozen=True)
class ModelRequest:
    """Body of a call to ``/v1/messages`` or ``/v1/messages/count_tokens``.

    ``document`` is the parsed ``body``. A provider gets the unchanged bytes of the body.
    """

    body: bytes = field(repr=False)
    document: dict[str, Any] = field(repr=False)
    model: str
    stream: bool = False


def parse_messages(body: bytes) -> ModelRequest:
    """Check the body of ``POST /v1/messages``.

    Raises:
        BadRequest: a field is missing or of the wrong type; the sentence names it.
    """
    request = parse_count_tokens(body)
    max_tokens = request.document.get("max_tokens")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 0:
        raise BadRequest("max_tokens: must be the maximum number of output tokens, as a whole number")
    stream = request.document.get("stream", False)
    if not isinstance(stream, bool):
        raise BadRequest("stream: must be true or false")
    return ModelRequest(body, request.document, request.model, stream)


def parse_count_tokens(body: bytes) -> ModelRequest:
    """Check the body of ``POST /v1/messages/count_tokens``.

    Raises:
        BadRequest: a field is missing or of the wrong type; the sentence names it.
    """
    document = _object(body)
    model = document.get("model")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_MODEL_LENGTH or not model.isprintable():
        raise BadRequest(f"model: must be the model's name, with at most {MAX_MODEL_LENGTH} printable characters")
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("messages: must be the conversation, as a list with at least one message")
    for index, message in enumerate(messages):
        problem = _message_problem(message)
        if problem:
            raise BadRequest(f"messages.{index}{problem}")
    return ModelRequest(body, document, model)


def bearer(headers: Mapping[str, str]) -> str | None:
    """Return the token from ``x-api-key`` or ``Authorization: Bearer``; None when the value cannot be a token."""
    token = headers.get("x-api-key") or ""
    if not token:
        scheme, _, rest = (headers.get("authorization") or "").partition(" ")
        token = rest.strip() if scheme.lower() == "bearer" else ""
    fits = 0 < len(token) <= MAX_TOKEN_LENGTH and token.isascii() and token.isprintable() and " " not in token
    return token if fits else None


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest("The request's body must be JSON in UTF-8 without excessive nesting") from error
    if not isinstance(document, dict):
        raise BadRequest("The request's body must be a JSON object with model, messages and max_tokens")
    return document


def _message_problem(message: Any) -> str | None:
    if not isinstance(message, dict):
        return ": must be an object with role and content"
    if not isinstance(message.get("role"), str):
        return ".role: must be a word such as user or assistant"
    content = message.get("content")
    if isinstance(content, str):
        return None
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        return ".content: must be a text or a list of content blocks"
    return None
