"""What the hub reads from PostgreSQL, in a few threads of its own, so that no viewer holds a connection or a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from django.db import connection

from jobs.events.encoding import Lines
from jobs.events.reader import read_page
from jobs.models.job import Job

T = TypeVar("T")

# Of the pool's connections the hub takes this many at most: the API needs the others.
_READERS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="hub")


@dataclass(frozen=True)
class JobState:
    """How far a job's log is, and whether it goes on."""

    last_seq: int
    status: str
    is_over: bool


async def in_reader(read: Callable[[], T]) -> T:
    """Run a function that reads from the database in one of the hub's threads.

    Raises:
        django.db.Error: the database could not answer.
    """
    return await asyncio.get_running_loop().run_in_executor(_READERS, _released, read)


def _released(read: Callable[[], T]) -> T:
    try:
        return read()
    finally:
        # Back to the pool.
        connection.close()


async def read_states(job_pks: Iterable[int]) -> dict[int, JobState]:
    """Return the state of each job; one that is deleted is missing. Raises as ``in_reader`` does."""
    pks = list(job_pks)
    return await in_reader(lambda: _states(pks))


def _states(job_pks: list[int]) -> dict[int, JobState]:
    # Status and last number come from one row at one time: an ended job has all its events by then.
    jobs = Job.objects.only("pk", "next_seq", "status").in_bulk(job_pks)
    return {pk: JobState(job.next_seq - 1, job.status, job.is_over) for pk, job in jobs.items()}


async def read_batches(job_pk: int, after: int) -> list[Lines]:
    """Return a page of a job's events. Raises as ``in_reader`` does."""
    return await in_reader(lambda: read_page(job_pk, after))
