"""What the gateway refuses, in the words of Anthropic's Messages API.

GatewayError              500 api_error
├── BadRequest            400 invalid_request_error
├── NotAuthenticated      401 authentication_error
├── UnknownPath           404 not_found_error
├── MethodNotAllowed      405 invalid_request_error
├── TooLarge              413 request_too_large
├── BrokenUpstream        502 api_error
├── GrantsUnavailable     503 api_error
├── UpstreamTimeout       504 timeout_error
├── Overloaded            529 overloaded_error
└── PlayedError           whatever a play says
"""

from __future__ import annotations

import json
from typing import ClassVar

from myctobot.errors import MyctobotError

# The type that Anthropic's API gives to each status; any other status is an api_error.
TYPES_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class GatewayError(MyctobotError):
    """The gateway failed; its log says why. Try again."""

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


class NotAuthenticated(GatewayError):
    """Give the job's gateway token in the header 'x-api-key'; it ends with the job."""

    code = "authentication_error"
    http_status = 401
    retryable = False


class NoProviderKey(NotAuthenticated):
    """This job has no anthropic_api_key: give it in the job's request, or store a secret and name it there."""


class UnknownPath(GatewayError):
    """There is no such path here; this gateway has POST /v1/messages and POST /v1/messages/count_tokens."""

    code = "not_found_error"
    http_status = 404
    retryable = False


class MethodNotAllowed(GatewayError):
    """This path takes another method."""

    code = "invalid_request_error"
    http_status = 405
    retryable = False

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This path takes {allowed} only.")
        self.allowed = allowed

    @property
    def headers(self) -> dict[str, str]:
        return {"allow": self.allowed}


class TooLarge(GatewayError):
    """The request is larger than 32 MB; send less of the conversation."""

    code = "request_too_large"
    http_status = 413
    retryable = False


class BrokenUpstream(GatewayError):
    """The upstream cannot be reached or broke off; try again."""

    http_status = 502


class GrantsUnavailable(GatewayError):
    """The gateway cannot check the token now, because its database does not answer; try again."""

    http_status = 503


class UpstreamTimeout(GatewayError):
    """The upstream did not answer in time; try again."""

    code = "timeout_error"
    http_status = 504


class Overloaded(GatewayError):
    """The gateway has too many calls to the upstream open; try again in a moment."""

    code = "overloaded_error"
    http_status = 529


class PlayedError(GatewayError):
    """A play says so."""

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
    """Write an error as Anthropic's API does."""
    error = {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
    return json.dumps(error).encode()


def error_event(kind: str, message: str, request_id: str) -> bytes:
    """Write an error that comes after a stream has begun.

    It starts a new line, since the stream may have broken off in the middle of one.
    """
    return b"\nevent: error\ndata: " + error_body(kind, message, request_id) + b"\n\n"
