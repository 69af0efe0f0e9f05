"""Errors of logins."""

from __future__ import annotations

from myctobot.errors import MyctobotError


class LoginRefused(MyctobotError):
    """Too many attempts to log in."""

    code = "too_many_logins"
    http_status = 429
    retryable = True

    def __init__(self, retry_after_s: int) -> None:
        # The sentence is the same for every account, so that it does not reveal which accounts exist.
        super().__init__(f"Too many attempts to log in. Try again in {retry_after_s} s.")
        self.retry_after_s = retry_after_s
