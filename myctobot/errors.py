"""The root of every error that a caller may see.

    MyctobotError
    ├── InvalidRequest        400
    ├── NotAuthenticated      401
    ├── NotAllowed            403
    ├── NotFound              404
    └── Conflict              409

An app's own ``errors.py`` derives from these. The class holds what programs read (code, HTTP status,
whether to try again); the instance holds the sentence for people. One handler makes the JSON.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MyctobotError(Exception):
    """Something went wrong that MyCTOBot did not expect."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

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


class NotAuthenticated(MyctobotError):
    """Give an API key in the header 'Authorization: Bearer …', or log in."""

    code = "not_authenticated"
    http_status = 401


class NotAllowed(MyctobotError):
    """You are known, but this is not allowed for your role."""

    code = "not_allowed"
    http_status = 403


class NotFound(MyctobotError):
    """There is no such thing here, or it belongs to somebody else."""

    code = "not_found"
    http_status = 404


class Conflict(MyctobotError):
    """The request does not fit the present state."""

    code = "conflict"
    http_status = 409
