"""Errors of each operation for the API's schema: those that every call may have, and those that its view declares."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from rest_framework.negotiation import DefaultContentNegotiation

from myctobot.errors import MyctobotError, RateLimited, RequestTimeout, TooManyCalls, Unavailable
from myctobot.tenants.permissions import MissingPermission

ERROR_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An error. `code` is for programs, and `message` is a sentence for people.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "retryable": {"type": "boolean", "description": "True if the same call may succeed later."},
                "fields": {
                    "type": "object",
                    "description": "Problems by the name of the field or parameter.",
                    "additionalProperties": {"type": "array", "items": {"type": "string"}},
                },
                "permissions": {
                    "type": "array",
                    "description": "Permissions that the account lacks.",
                    "items": {"type": "string"},
                },
                "secrets": {
                    "type": "array",
                    "description": "Secrets that the call must have.",
                    "items": {"type": "string"},
                },
            },
            "required": ["code", "message", "retryable"],
        }
    },
    "required": ["error"],
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 0}, "required": False}
}
_WITH_RETRY_AFTER: Final = frozenset({TooManyCalls.http_status, Unavailable.http_status})
_METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class ErrorCode(NamedTuple):
    """Code of an error with its HTTP status, and a sentence for readers of the schema."""

    status: int
    code: str
    sentence: str


_EVERY_CALL: Final = (
    ErrorCode(400, "invalid_request", "A field or parameter is not valid. `fields` names it."),
    ErrorCode(401, "not_authenticated", "The call has no API key and no session."),
    ErrorCode(401, "authentication_failed", "The API key is unknown, expired or revoked."),
    ErrorCode(403, "permission_denied", "The role does not allow it, or the CSRF token is missing."),
    ErrorCode(413, "request_too_large", "The body is too large, or the call must have none."),
    ErrorCode(500, "internal_error", "An unexpected error occurred. Try again."),
)
_WITH_BODY: Final = (
    ErrorCode(400, "parse_error", "The body is not well-formed JSON."),
    ErrorCode(415, "unsupported_media_type", "The body is not declared as JSON."),
)
_OF_TENANTS: Final = ErrorCode(403, "other_tenant", "The API key belongs to another tenant than the header names.")
_JSON_ONLY: Final = ErrorCode(406, "not_acceptable", "The call does not accept JSON.")


def error_responses(view: Any, method: str, *, has_body: bool) -> dict[str, Any]:
    """Return the responses of all errors of a call, by status.

    Args:
        view: its ``errors`` has the errors of its own, by method.
        method: HTTP method.
        has_body: the call reads a body.
    """
    by_status: dict[int, dict[str, str]] = {}
    for found in _codes(view, method, has_body=has_body):
        by_status.setdefault(found.status, {}).setdefault(found.code, found.sentence)
    return {str(status): _response(status, codes) for status, codes in sorted(by_status.items())}


def _codes(view: Any, method: str, *, has_body: bool) -> Iterable[ErrorCode]:
    yield from _EVERY_CALL
    yield from map(_of, (RateLimited, TooManyCalls, Unavailable))
    if has_body:
        yield from _WITH_BODY
    if method in _METHODS_WITH_BODY:
        yield _of(RequestTimeout)
    if issubclass(view.content_negotiation_class, DefaultContentNegotiation):
        yield _JSON_ONLY
    yield _of(MissingPermission) if getattr(view, "needs", None) else _OF_TENANTS
    yield from map(_of, getattr(view, "errors", {}).get(method, ()))


def _of(error: type[MyctobotError]) -> ErrorCode:
    return ErrorCode(error.http_status, error.code, (error.__doc__ or "").strip().splitlines()[0])


def _response(status: int, codes: dict[str, str]) -> dict[str, Any]:
    narrowed = {"type": "object", "properties": {"code": {"type": "string", "enum": sorted(codes)}}}
    schema = {
        "allOf": [
            {"$ref": "#/components/schemas/Error"},
            {"type": "object", "properties": {"error": narrowed}},
        ]
    }
    return {
        "description": "\n".join(f"- `{code}`: {sentence}" for code, sentence in sorted(codes.items())),
        "content": {"application/json": {"schema": schema}},
        **({"headers": _RETRY_AFTER} if status in _WITH_RETRY_AFTER else {}),
    }
