"""Database reads of the hub in a few threads of its own, so that no viewer occupies a connection or a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.db import connection

from jobs.events.encoding import EventBlock
from jobs.events.reader import read_page
from jobs.models import Job

T = TypeVar("T")

# Limits the hub to this many connections of the pool, because the API needs the others.
_READERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="hub")


@dataclass(frozen=True)
class JobState:
    """Last event number of a job, and its status."""

    last_seq: int
    status: str
    is_over: bool


async def in_reader(read: Callable[[], T]) -> T:
    """Run a function that reads from the database in one of the hub's threads.

    Raises:
        django.db.Error: the database could not answer.
    """
    return await asyncio.get_running_loop().run_in_executor(_READERS, _run_and_release, read)


def _run_and_release(read: Callable[[], T]) -> T:
    try:
        return read()
    finally:
        # Return the connection to the pool.
        connection.close()


async def read_states(job_pks: Iterable[int]) -> dict[int, JobState]:
    """Return the state of each job; a deleted job is missing. Raises as ``in_reader`` does."""
    pks = list(job_pks)
    return await in_reader(lambda: _states(pks))


def _states(job_pks: list[int]) -> dict[int, JobState]:
    # Status and last number are read from one row, so that an ended job is complete.
    jobs = Job.objects.only("pk", "next_seq", "status").in_bulk(job_pks)
    return {pk: JobState(job.next_seq - 1, job.status, job.is_over) for pk, job in jobs.items()}


async def read_batches(job_pk: int, after: int) -> list[EventBlock]:
    """Return a page of a job's events. Raises as ``in_reader`` does."""
    return await in_reader(lambda: read_page(job_pk, after))
