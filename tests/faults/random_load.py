"""Load of a run of random faults: jobs, repeated submits, cancels and viewers, all by a seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.factories.fault_history import ViewerFacts
from tests.factories.random_faults import JobSpec
from tests.factories.stream_viewers import SseViewer, Viewer, WebSocketViewer
from tests.faults.effects import TOKEN, World

# More waiting jobs than slots, so that every free slot is taken and waits are seen.
MAX_OUTSTANDING = 8
_ANSWER_S = 180


@dataclass
class LoadedJob:
    """Job of the load with the answers of its calls and its viewers."""

    spec: JobSpec
    key: str
    ids: set[str] = field(default_factory=set)
    viewers: list[Viewer] = field(default_factory=list)

    @property
    def facts_of_viewers(self) -> tuple[ViewerFacts, ...]:
        return tuple(
            ViewerFacts(
                f"{type(viewer).__name__} {number}",
                tuple(zip(viewer.seen, viewer.digests, strict=True)),
                (viewer.end["count"], viewer.end["status"]) if viewer.end else None,
            )
            for number, viewer in enumerate(self.viewers, 1)
        )


class Load:
    """Load on one stack.

    Args:
        seed: seed of the moments of repeated submits.
        viewer_url: address for viewers, whose connections break.
    """

    def __init__(self, place: World, seed: int, viewer_url: str) -> None:
        self._place, self._viewer_url = place, viewer_url
        self._chance = random.Random(f"{seed} load")
        self.jobs: list[LoadedJob] = []
        self.errors: list[str] = []
        self._room = asyncio.Semaphore(MAX_OUTSTANDING)
        stack = place.client.stack
        headers = {"Authorization": f"Bearer {stack.api_key}"}
        self._api = httpx.AsyncClient(base_url=f"{stack.web_url}/api/v1", headers=headers, timeout=15, trust_env=False)

    async def run(self, specs: Iterable[JobSpec], over: asyncio.Event) -> None:
        """Submit jobs until ``over`` is set, and then wait until all of them and their viewers are done."""
        async with self._api, asyncio.TaskGroup() as tasks:
            for spec in specs:
                await self._room.acquire()
                if over.is_set():
                    return
                job = LoadedJob(spec, f"random-{spec.number}")
                self.jobs.append(job)
                tasks.create_task(self._live(job))
                await asyncio.sleep(spec.pause_s)

    async def _live(self, job: LoadedJob) -> None:
        """Submit a job, watch it, repeat its submit and cancel it, until all of this is done."""
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    job_id = await self._submit(job)
                    tasks.create_task(self._cancel(job.spec, job_id))
                    for _ in range(job.spec.resubmits):
                        tasks.create_task(self._repeat(job, self._chance.uniform(0, 15)))
                    await asyncio.gather(*(self._watch(job, job_id, kind) for kind in (SseViewer, WebSocketViewer)))
                    # A viewer that comes after the end sees the same.
                    await self._watch(job, job_id, SseViewer)
                finally:
                    self._room.release()
        except* (AssertionError, TimeoutError) as failed:
            self.errors += [f"{job.key}: {error}" for error in failed.exceptions]

    async def _watch(self, job: LoadedJob, job_id: str, kind: type[Viewer]) -> None:
        viewer = kind(self._viewer_url, self._place.client.stack.api_key, job_id)
        job.viewers.append(viewer)
        await viewer.watch()

    async def _submit(self, job: LoadedJob) -> str:
        answer = await self._call("POST", "/jobs", json=self._body(job.spec), headers={"Idempotency-Key": job.key})
        job_id = str(answer.json()["id"])
        job.ids.add(job_id)
        return job_id

    async def _repeat(self, job: LoadedJob, after_s: float) -> None:
        await asyncio.sleep(after_s)
        await self._submit(job)

    async def _cancel(self, spec: JobSpec, job_id: str) -> None:
        if spec.cancel_after_s is not None:
            await asyncio.sleep(spec.cancel_after_s)
            answer = await self._call("POST", f"/jobs/{job_id}/cancel", may_conflict=True)
            if answer.status_code == httpx.codes.CONFLICT:
                # The job ended before its cancel arrived.
                assert answer.json()["error"]["code"] == "job_finished", answer.text
                job = (await self._call("GET", f"/jobs/{job_id}")).json()
                assert job["status"] in ("completed", "failed"), f"{job['status']} after {answer.text}"

    async def _call(self, method: str, path: str, *, may_conflict: bool = False, **more: Any) -> httpx.Response:
        """Repeat a call until it is answered; only answers that ask for a repetition are repeated."""
        text = ""
        async with asyncio.timeout(_ANSWER_S):
            while True:
                with suppress(httpx.TransportError):
                    answer = await self._api.request(method, path, **more)
                    text = f"{answer.status_code} {answer.text}"
                    if answer.is_success or (may_conflict and answer.status_code == httpx.codes.CONFLICT):
                        return answer
                    assert answer.status_code >= 500 or answer.status_code == 429, text
                await asyncio.sleep(0.3)

    def _body(self, spec: JobSpec) -> dict[str, Any]:
        task: dict[str, Any] = {
            "type": "prompt",
            "prompt": f"RUN: sleep {spec.work_s}; echo {spec.number} > done-{spec.number}.txt",
        }
        if spec.has_repository:
            task |= {"repo_url": self._place.git.url(self._place.remote.name), "repo_token": TOKEN}
        if spec.branch:
            task["branch"] = spec.branch
        body: dict[str, Any] = {
            "task": task,
            "capabilities": ["git", "filesystem"],
            "retry": {"max_attempts": spec.max_attempts, "on": ["infrastructure", "agent", "timeout"]},
        }
        if spec.has_callback:
            body["callback_url"] = self._place.hook.url
        if spec.concurrency_key:
            body["concurrency"] = {"key": spec.concurrency_key, "limit": 1}
        return body
