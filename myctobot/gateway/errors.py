"""Errors of the gateway, in the format of Anthropic's Messages API.

GatewayError              500 api_error
├── BadRequest            400 invalid_request_error
├── NotAuthenticated      401 authentication_error
├── NotPermitted          403 permission_error
├── UnknownPath           404 not_found_error
├── MethodNotAllowed      405 invalid_request_error
├── JobCallsExceeded          429 rate_limit_error
├── CallQuotaReached      429 rate_limit_error
├── BrokenUpstream        502 api_error
├── GrantsUnavailable     503 api_error
├── UpstreamTimeout       504 timeout_error
├── Overloaded            529 overloaded_error
└── ScriptedError         status and type of a script
"""

from __future__ import annotations

import json
from typing import ClassVar

from myctobot.errors import RETRY_AFTER_S, MyctobotError

# Error types of Anthropic's API by status. Any other status is an api_error.
TYPES_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

# Claude Code and Anthropic's SDKs repeat a refused call unless this header forbids it.
_FINAL = {"x-should-retry": "false"}


class GatewayError(MyctobotError):
    """The gateway failed. Its log has the cause. Try again."""

    code: ClassVar[str] = "api_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True

    @property
    def status(self) -> int:
        return self.http_status

    @property
    def kind(self) -> str:
        return self.code

    @property
    def headers(self) -> dict[str, str]:
        return {}


class BadRequest(GatewayError):
    """The request is not valid."""

    code = "invalid_request_error"
    http_status = 400
    retryable = False


class IncompleteBody(BadRequest):
    """The body of the request is incomplete."""


class GatewayNotAuthenticated(GatewayError):
    """Send the job's gateway token in the header 'x-api-key'. The token is valid until the job ends."""

    code = "authentication_error"
    http_status = 401
    retryable = False

    @property
    def headers(self) -> dict[str, str]:
        return _FINAL


class NoProviderKey(GatewayNotAuthenticated):
    """This job has no anthropic_api_key: put it in the job's request, or store a secret and name it there."""


class GrantEnded(GatewayNotAuthenticated):
    """The job has ended, was cancelled, or runs as another attempt, so this call has ended too."""


class NotPermitted(GatewayError):
    """The gateway's policy does not allow this. An operator can change it in the gateway's settings."""

    code = "permission_error"
    http_status = 403
    retryable = False

    @property
    def headers(self) -> dict[str, str]:
        return _FINAL


class UnknownPath(GatewayError):
    """Unknown path: this gateway has POST /v1/messages and POST /v1/messages/count_tokens."""

    code = "not_found_error"
    http_status = 404
    retryable = False


class MethodNotAllowed(GatewayError):
    """This path does not accept this method."""

    code = "invalid_request_error"
    http_status = 405
    retryable = False

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path accepts only {allowed}.")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"allow": self.allowed}


class JobCallsExceeded(GatewayError):
    """This job has too many open calls. Wait for one of them to end."""

    code = "rate_limit_error"
    http_status = 429

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": "1"}


class CallQuotaReached(GatewayError):
    """This attempt of the job has made all its calls."""

    code = "rate_limit_error"
    http_status = 429
    retryable = False

    @property
    def headers(self) -> dict[str, str]:
        return _FINAL


class BrokenUpstream(GatewayError):
    """The upstream cannot be reached or closed the connection. Try again."""

    http_status = 502


class GrantsUnavailable(GatewayError):
    """The gateway cannot check the token now, because its database does not answer. Try again."""

    http_status = 503
    retry_after_s = RETRY_AFTER_S

    @property
    def headers(self) -> dict[str, str]:
        return {"retry-after": str(self.retry_after_s)}


class UpstreamTimeout(GatewayError):
    """The upstream did not answer in time. Try again."""

    code = "timeout_error"
    http_status = 504


class Overloaded(GatewayError):
    """The gateway has too many open calls to the upstream. Try again in a moment."""

    code = "overloaded_error"
    http_status = 529


class ScriptedError(GatewayError):
    """A script defines this error."""

    def __init__(self, message: str, *, status: int, kind: str, retry_after_s: int | None) -> None:
        super().__init__(message)
        self._status, self._kind, self._retry_after_s = status, kind, retry_after_s

    @property
    def status(self) -> int:
        return self._status

    @property
    def kind(self) -> str:
        return self._kind

    @property
    def headers(self) -> dict[str, str]:
        return {} if self._retry_after_s is None else {"retry-after": str(self._retry_after_s)}


def error_body(kind: str, message: str, request_id: str) -> bytes:
    """Encode an error in the format of Anthropic's API."""
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    return json.dumps(error).encode()


def error_event(kind: str, message: str, request_id: str) -> bytes:
    """Encode an error that occurs after a stream has begun. Only whole events may precede it."""
    return b"event: error\ndata: " + error_body(kind, message, request_id) + b"\n\n"
