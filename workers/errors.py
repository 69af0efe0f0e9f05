"""What can go wrong on a shard, in words for the person who started the job."""

from __future__ import annotations


class JobError(Exception):
    """The job cannot go on; the message says why and what to do.

    Args:
        code: a stable name for programs, in snake_case.
        message: one sentence for people, without secrets.
        retryable: whether the same job may well succeed on another try or another shard.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
