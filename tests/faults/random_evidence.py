"""Evidence of a run of random faults: samples of queue and slots during the run, and all facts after it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.factories.fault_history import AttemptFacts, BatchFacts, JobFacts, SlotSample, digest
from tests.faults.effects import World
from tests.faults.random_injection import database_url, live_runners
from tests.faults.random_load import LoadedJob
from tests.fixtures.repos import branches, git
from workers.sandbox import process_tree

_SAMPLE_EVERY_S = 1.0

# A job is ready if it waits for nothing but a slot. Its key must be free, and its pause over.
_QUEUE = """
SELECT job.public_id, job.status,
       job.status = 'queued' AND (
           job.hold IN ('', 'sent')
           OR (job.hold = 'time' AND job.ready_at <= now())
           OR (job.hold = 'key' AND NOT EXISTS (
               SELECT FROM jobs_job other JOIN jobs_attempt live ON live.job_id = other.id
               WHERE other.concurrency_key = job.concurrency_key AND other.id <> job.id
                 AND live.state IN ('sent', 'running')))) AS is_ready,
       CASE WHEN job.hold = 'sent' THEN job.attempt_number ELSE 0 END AS sent
FROM jobs_job job ORDER BY job.id
"""
_JOBS = """
SELECT id, public_id, idempotency_key, status, error_code, error_message, cancel_requested_at IS NOT NULL AS cancel,
       task ? 'repo_url' AS repository, callback_url <> '' AS callback, concurrency_key, max_attempts, result, task
FROM jobs_job ORDER BY id
"""
_ATTEMPTS = """
SELECT one.number, one.state, coalesce(shard.name, '') AS shard, one.outcome, one.error_code,
       extract(epoch FROM one.claimed_at)::float8 AS claimed_at, extract(epoch FROM one.ended_at)::float8 AS ended_at
FROM jobs_attempt one LEFT JOIN shards_shard shard ON shard.id = one.shard_id WHERE one.job_id = %s ORDER BY one.number
"""
_BATCHES = """
SELECT attempt_number AS attempt, first_seq, last_seq, extract(epoch FROM created_at)::float8 AS at
FROM jobs_eventbatch WHERE job_id = %s ORDER BY first_seq
"""


class Observer:
    """Thread that samples the status of each job, and the free slots of each shard in the shard's own view.

    Args:
        clock: returns the seconds since the start of the run.
    """

    def __init__(self, place: World, clock: Callable[[], float]) -> None:
        self._client, self._clock = place.client, clock
        self._slots = {
            name: int(json.loads(config.read_text())["max_concurrent_jobs"])
            for name, config in place.client.stack.shards.items()
        }
        self.samples: list[SlotSample] = []
        self.statuses: dict[str, list[str]] = {}
        self.runners: set[tuple[int, int]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._observe, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _observe(self) -> None:
        while not self._over.wait(_SAMPLE_EVERY_S):
            with (
                suppress(psycopg.OperationalError),
                psycopg.connect(database_url(self._client), autocommit=True) as connection,
            ):
                while not self._over.wait(_SAMPLE_EVERY_S):
                    self._take_sample(connection.execute(_QUEUE).fetchall())

    def _take_sample(self, rows: list[Any]) -> None:
        for job_id, status, _, _ in rows:
            seen = self.statuses.setdefault(job_id, [])
            if seen[-1:] != [status]:
                seen.append(status)
        ready = {job_id: sent for job_id, _, is_ready, sent in rows if is_ready}
        free = {name: count for name in self._slots if (count := self._free_slots(name))}
        self.samples.append(SlotSample(self._clock(), ready, free))

    def _free_slots(self, shard: str) -> int:
        """Return the slots without a runner, or 0 while the shard's worker cannot act."""
        runners = live_runners(self._client, shard)
        self.runners |= {(entry.pid, entry.start_time) for entry in runners}
        try:
            worker = process_tree.read(self._client.stack.pid_of(f"shard-{shard}"))
        except (FileNotFoundError, ValueError):
            return 0
        return self._slots[shard] - len(runners) if worker and worker.alive and not worker.stopped else 0


def collect_jobs(place: World, loaded: Iterable[LoadedJob], observer: Observer) -> tuple[JobFacts, ...]:
    """Return the facts about every job in the database."""
    by_key = {job.key: job for job in loaded}
    callbacks = _received_callbacks(place)
    heads = branches(place.remote)
    with psycopg.connect(database_url(place.client), row_factory=dict_row) as connection:
        rows = connection.execute(_JOBS).fetchall()
        return tuple(
            _facts(place, row, connection, by_key.get(row["idempotency_key"]), callbacks, heads, observer)
            for row in rows
        )


def _facts(
    place: World,
    row: dict[str, Any],
    connection: psycopg.Connection[dict[str, Any]],
    loaded: LoadedJob | None,
    callbacks: dict[str, list[tuple[str, str]]],
    heads: dict[str, str],
    observer: Observer,
) -> JobFacts:
    job_id = row["public_id"]
    names = [name for name in heads if job_id in name or name == row["task"].get("branch")]
    return JobFacts(
        job_id=job_id,
        key=row["idempotency_key"] or "",
        status=row["status"],
        statuses=tuple(observer.statuses.get(job_id, ())),
        error_code=row["error_code"],
        error_message=row["error_message"],
        cancel_requested=row["cancel"],
        has_repository=row["repository"],
        has_callback=row["callback"],
        concurrency_key=row["concurrency_key"],
        max_attempts=row["max_attempts"],
        attempts=tuple(AttemptFacts(**one) for one in connection.execute(_ATTEMPTS, [row["id"]]).fetchall()),
        batches=tuple(BatchFacts(**one) for one in connection.execute(_BATCHES, [row["id"]]).fetchall()),
        events=tuple((event["seq"], digest(event)) for event in place.client.events(job_id)),
        viewers=loaded.facts_of_viewers if loaded else (),
        callbacks=tuple(callbacks.get(job_id, ())),
        head=(row["result"] or {}).get("head"),
        branches={name: len(git(place.remote, "rev-list", f"main..{name}").split()) for name in names},
        heads={name: heads[name] for name in names},
    )


def _received_callbacks(place: World) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for headers, text in list(place.hook.received):
        body = json.loads(text)
        found.setdefault(body["data"]["id"], []).append((body["type"], headers["webhook-id"]))
    return found
