"""Base classes of every error that a caller may see.

    MyctobotError
    ├── InvalidRequest        400
    │   ├── RequestTooLarge   413
    │   └── RequestTimeout    408
    ├── NotAuthenticated      401
    ├── NotAllowed            403
    ├── NotFound              404
    ├── Conflict              409
    ├── TooManyCalls          429
    │   └── RateLimited       429
    └── Unavailable           503

The ``errors.py`` of each app derives from these. The class holds the code, the HTTP status and whether a retry may
help. The instance holds the sentence for people. One handler produces the JSON.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

# An outage takes seconds to minutes. Many callers must not return at once.
RETRY_AFTER_S: Final = 5


class MyctobotError(Exception):
    """An unexpected error occurred in MyCTOBot."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    # Seconds for ``Retry-After``. Each error with the status 503 has them.
    retry_after_s: int | None = None

    def __init__(self, message: str | None = None, **data: Any) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])
        self.data = data

    @property
    def message(self) -> str:
        return str(self)


class InvalidRequest(MyctobotError):
    """The request is not valid."""

    code = "invalid_request"
    http_status = 400

    def __init__(self, message: str | None = None, *, fields: dict[str, list[str]] | None = None, **data: Any) -> None:
        super().__init__(message, **data)
        self.fields = fields or {}


class RequestTooLarge(InvalidRequest):
    """The body of the request has more bytes than allowed."""

    code = "request_too_large"
    http_status = 413

    def __init__(self, limit: int) -> None:
        problem = f"Has more than {limit} bytes; send a smaller body." if limit else "Send this request without a body."
        super().__init__(f"The body of the request is too large. {problem}", fields={"body": [problem]})


class RequestTimeout(InvalidRequest):
    """The body of the request did not arrive in time."""

    code = "request_timeout"
    http_status = 408
    retryable = True

    def __init__(self, timeout_s: float) -> None:
        problem = f"Did not arrive within {timeout_s:g} s; send it again, and faster."
        super().__init__(f"The body of the request is incomplete. {problem}", fields={"body": [problem]})


class NotAuthenticated(MyctobotError):
    """Send an API key in the header 'Authorization: Bearer …', or log in."""

    code = "not_authenticated"
    http_status = 401


class NotAllowed(MyctobotError):
    """You are known, but this is not allowed for your role."""

    code = "not_allowed"
    http_status = 403


class NotFound(MyctobotError):
    """The object does not exist, or it belongs to another tenant."""

    code = "not_found"
    http_status = 404


class Conflict(MyctobotError):
    """The request conflicts with the current state."""

    code = "conflict"
    http_status = 409


class TooManyCalls(MyctobotError):
    """Your earlier calls must end before others can start. Make fewer calls at the same time."""

    code = "too_many_calls"
    http_status = 429
    retryable = True


class RateLimited(TooManyCalls):
    """You made too many calls in a minute. Wait, and then call less often."""

    code = "rate_limited"


class Unavailable(MyctobotError):
    """The database or the broker does not answer, or accepts no changes now. Try again in a few seconds."""

    code = "unavailable"
    http_status = 503
    retryable = True
    retry_after_s = RETRY_AFTER_S
