"""Error responses of the REST and shard APIs, all made by one handler.

``{"error": {"code": "invalid_request", "message": "…", "retryable": false, "fields": {"task.branch": ["…"]}}}``
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from myctobot.errors import InvalidRequest, MyctobotError, Unavailable
from myctobot.lib.postgres.outage import is_outage

log = structlog.get_logger(__name__)

# Number of characters of the request that an error repeats at most.
_MAX_SENTENCE = 500
# Number of invalid fields that an error lists at most.
_MAX_FIELDS = 50


def error_body(code: str, message: str, *, retryable: bool = False, **more: Any) -> dict[str, Any]:
    """Return the body of an error response; ``more`` has further keys for programs."""
    return {"error": {"code": code, "message": message, "retryable": retryable, **more}}


NO_SUCH_ADDRESS = error_body("no_such_address", "This API has no such address; /api/docs/ lists all addresses.")
INTERNAL_ERROR = error_body(
    "internal_error",
    "MyCTOBot had an unexpected error. Try again, and inform the operators if it persists.",
    retryable=True,
)


def plain(text: str) -> str:
    """Shorten a text that may repeat a part of the request, and replace characters that UTF-8 cannot encode."""
    short = text if len(text) <= _MAX_SENTENCE else text[:_MAX_SENTENCE] + "…"
    return short.encode("utf-8", "replace").decode()


def flatten(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Turn DRF's nested validation errors into ``{"task.repo_url": ["…"]}``."""
    if isinstance(detail, dict):
        fields: dict[str, list[str]] = {}
        for key, value in detail.items():
            name = "" if key == "non_field_errors" else plain(str(key))
            fields.update(flatten(value, ".".join(part for part in (prefix, name) if part)))
        return fields
    if isinstance(detail, list) and any(isinstance(item, dict | list) for item in detail):
        fields = {}
        for index, item in enumerate(detail):
            fields.update(flatten(item, f"{prefix}[{index}]"))
        return fields
    return {prefix or "request": [plain(str(item)) for item in (detail if isinstance(detail, list) else [detail])]}


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response for an error of a view; None for an unexpected one, which becomes a 500 with a traceback."""
    set_rollback()
    if isinstance(error, Http404):
        error = exceptions.NotFound("This object does not exist, or it belongs to another tenant.")
    elif isinstance(error, PermissionDenied):
        error = exceptions.PermissionDenied()
    if isinstance(error, exceptions.ValidationError):
        error = InvalidRequest(fields=flatten(error.detail))
    if is_outage(error):
        log.warning("request.unavailable", error=str(error))
        error = Unavailable()
    if isinstance(error, MyctobotError):
        return _own(error)
    if isinstance(error, exceptions.APIException):
        return _of_drf(error)
    return None


def _first_fields(fields: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return at most ``_MAX_FIELDS`` invalid fields, and the number of the others as a problem of the request."""
    others = len(fields) - _MAX_FIELDS
    if others <= 0:
        return fields
    first = dict(islice(fields.items(), _MAX_FIELDS))
    return {**first, "request": [*first.get("request", []), f"Has {others} more invalid fields."]}


def body_of(error: MyctobotError) -> dict[str, Any]:
    """Return the body of the response to an error of our own."""
    more = dict(error.data)
    message = error.message
    if isinstance(error, InvalidRequest) and error.fields:
        more["fields"] = _first_fields(error.fields)
        name, problems = next(iter(error.fields.items()))
        others = len(error.fields) - 1
        message = f"{name}: {problems[0]}" + (f" (and {others} more)" if others else "")
    return error_body(error.code, message, retryable=error.retryable, **more)


def retry_headers(error: MyctobotError) -> dict[str, str]:
    """Return the header that says when a retry may succeed, for the errors that have it."""
    return {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}


def _own(error: MyctobotError) -> Response:
    return Response(body_of(error), status=error.http_status, headers=retry_headers(error))


def _of_drf(error: exceptions.APIException) -> Response:
    headers = {}
    if getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]  # set by DRF's views
    code = error.get_codes() if isinstance(error.get_codes(), str) else error.default_code
    return Response(
        error_body(str(code), str(error.detail), retryable=error.status_code >= 500),
        status=error.status_code,
        headers=headers,
    )
