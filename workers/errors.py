"""Errors of a job on a shard, with messages for the person who started it."""

from __future__ import annotations


class JobError(Exception):
    """Job cannot continue; the message says why, and what to do.

    Args:
        code: stable name for programs, in snake_case.
        message: a sentence for people, without secrets.
        retryable: whether the same job may succeed on another try or on another shard.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
