"""Rules for the names of shards, pools and capabilities, and for those of jobs and their attempts."""

from __future__ import annotations

import re
from typing import Final

MAX_ATTEMPT: Final = 1_000_000

SLUG_PATTERN = r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?"
_SLUG = re.compile(SLUG_PATTERN)
_JOB_ID = re.compile(r"job_[a-z0-9]{20}")
_ATTEMPT_NAME = re.compile(r"(job_[a-z0-9]{20})\.([1-9][0-9]{0,6})")


def is_slug(value: str) -> bool:
    """Tell whether ``value`` is a slug: lower-case letters, digits and inner dashes, at most 40 characters."""
    return _SLUG.fullmatch(value) is not None


def is_attempt(job_id: object, attempt: object) -> bool:
    """Tell whether two values of any type are the public id of a job and the number of an attempt."""
    is_id = isinstance(job_id, str) and _JOB_ID.fullmatch(job_id) is not None
    return is_id and type(attempt) is int and 1 <= attempt <= MAX_ATTEMPT


def attempt_name(job_id: object, attempt: object) -> str:
    """Return the name of an attempt, such as ``job_0123456789abcdefghjk.1``, which is safe as the name of a file.

    Raises:
        ValueError: the values are not the id of a job and the number of an attempt.
    """
    if not is_attempt(job_id, attempt):
        raise ValueError(f"{str(job_id)[:40]!r} and {str(attempt)[:20]!r} do not name an attempt of a job")
    return f"{job_id}.{attempt}"


def parse_attempt_name(name: str) -> tuple[str, int] | None:
    """Return the job's id and the number of the attempt with this name, or None for any other name."""
    match = _ATTEMPT_NAME.fullmatch(name)
    if match is None or int(match[2]) > MAX_ATTEMPT:
        return None
    return match[1], int(match[2])
