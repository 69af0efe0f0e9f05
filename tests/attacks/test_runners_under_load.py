"""Attack by one tenant on the runners of others: large reads and bodies, as many at once as it can send."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from jobs.events.encoding import encode
from jobs.models import EventBatch, Job
from myctobot.contract.jobs import Event
from myctobot.contract.limits import MAX_PROMPT_BYTES
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.tenants.models import ApiKey, Role, Tenant
from tests.factories.control_plane import Runner, event, fresh, make_job, make_shard, make_tenant, running_job
from tests.fixtures.call_load import CallLoad, call_load
from tests.fixtures.http_process import WEB, HttpProcess, http_process, wait_until

MB = 1024 * 1024
RUNNERS, ROUNDS = 20, 5
# Half of the time after which a runner without an answer freezes its agent. An idle server needs some milliseconds.
LONGEST_S = 20.0
# Without bounds the reads below take gigabytes.
MAX_MEMORY = 700 * MB
READERS, LISTERS, SENDERS = 24, 24, 24
EVENTS, EVENT_BYTES, BATCH_EVENTS = 1000, 32 * 1024, 8
LARGE_JOBS = 40
JOB = {"task": {"type": "prompt", "prompt": "Do it."}, "capabilities": ["git"]}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def web(transactional_db: None) -> Iterator[HttpProcess]:
    with http_process(WEB, {}) as process:
        yield process


@dataclass(frozen=True)
class Caller:
    """Client with a key, which sends one request on each connection."""

    web: HttpProcess
    key: str

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = {
            "Host": "localhost",
            "Authorization": f"Bearer {self.key}",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            **headers,
        }
        if not content:
            del lines["Content-Length"]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())])
        return head.encode() + b"\r\n\r\n" + content

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, float]:
        """Return the status and the seconds of a call; a call that takes longer than ``LONGEST_S`` fails."""
        began = time.monotonic()
        answer = self.web.ask(self.request("POST", path, body, **headers))
        return answer.status, time.monotonic() - began


def long_log(tenant: Tenant) -> Job:
    """Return a job with a thousand events, stored as its runner would send them."""
    job = make_job(tenant)
    text = json.dumps({"source": "agent", "text": "x" * EVENT_BYTES})
    for first in range(1, EVENTS + 1, BATCH_EVENTS):
        numbers = range(first, first + BATCH_EVENTS)
        lines = "\n".join(encode(Event(seq=seq, at="now", kind="log.line", data={}), text) for seq in numbers)
        EventBatch.objects.create(
            job=job, attempt_number=1, first_seq=first, last_seq=numbers[-1], lines=lines, bytes=len(lines)
        )
    Job.objects.filter(pk=job.pk).update(next_seq=EVENTS + 1)
    return fresh(job)


def attacks(web: HttpProcess, tenant: Tenant) -> list[bytes]:
    """Return the requests of all attacks."""
    viewer = Caller(web, ApiKey.create(tenant, "viewer", role=Role.VIEWER)[1])
    member = Caller(web, ApiKey.create(tenant, "member")[1])
    job = long_log(tenant)
    for _ in range(LARGE_JOBS):
        make_job(tenant, task={"type": "prompt", "prompt": "x" * MAX_PROMPT_BYTES})
    unknown = {f"{number:05}": 1 for number in range(70_000)}
    return [
        *[viewer.request("GET", f"/api/v1/jobs/{job.public_id}/events?limit=1000")] * READERS,
        *[viewer.request("GET", "/api/v1/jobs?limit=200")] * LISTERS,
        *[member.request("POST", "/api/v1/jobs", unknown)] * SENDERS,
    ]


def runner_calls(caller: Caller, runner: Runner) -> list[tuple[int, float]]:
    """Send events and renew the lease, again and again."""
    path, headers = f"/shard/v1/jobs/{runner.job.public_id}/events", {CLAIM_HEADER: runner.token}
    found = []
    for seq in range(1, ROUNDS + 1):
        body = {"attempt": runner.attempt, "first_seq": seq, "events": [event(seq)]}
        found.append(caller.post(path, body, **headers))
        found.append(caller.post(path, {"attempt": runner.attempt, "first_seq": seq + 1, "events": []}, **headers))
    return found


def heartbeats(caller: Caller) -> list[tuple[int, float]]:
    report = {
        "version": "1", "capabilities": ["filesystem", "git"], "slots": RUNNERS, "running": [], "cpu_percent": 0.0,
        "memory_mb": 1, "memory_total_mb": 1, "disk_free_mb": 1, "versions": {},
    }  # fmt: skip
    return [caller.post("/shard/v1/heartbeat", report) for _ in range(2 * ROUNDS)]


def run_at_once(calls: list[Callable[[], list[tuple[int, float]]]]) -> list[tuple[int, float]]:
    with ThreadPoolExecutor(len(calls)) as threads:
        return [answer for found in [threads.submit(call) for call in calls] for answer in found.result()]


def check_runners(web: HttpProcess, answers: list[tuple[int, float]]) -> None:
    """Check that each call of a runner succeeded in time, and that the server has memory left."""
    statuses = [status for status, _ in answers]
    assert sorted(set(statuses)) == [200, 201]
    assert statuses.count(201) == ROUNDS
    assert max(seconds for _, seconds in answers) < LONGEST_S
    assert web.memory_bytes() < MAX_MEMORY


def check_load(load: CallLoad) -> None:
    """Check that the attack goes on, and that the server stays within its bounds."""
    assert wait_until(lambda: load.statuses[200] > 0 and load.statuses[400] > 0)
    assert set(load.statuses) <= {200, 400, 429}
    assert load.largest < 2 * MB + 16 * 1024


def test_no_runner_waits_for_a_tenant_that_reads_all_it_can(web: HttpProcess) -> None:
    owner, rival = make_tenant("owner"), make_tenant("rival")
    _, key = make_shard(slots=RUNNERS)
    runners = [running_job(owner, key)[1] for _ in range(RUNNERS)]
    shard, submitter = Caller(web, key), Caller(web, ApiKey.create(owner, "submits")[1])
    with call_load(web.port, attacks(web, rival)) as load:
        answers = run_at_once(
            [
                *[lambda runner=runner: runner_calls(shard, runner) for runner in runners],
                lambda: heartbeats(shard),
                lambda: [submitter.post("/api/v1/jobs", JOB) for _ in range(ROUNDS)],
            ]
        )
        check_runners(web, answers)
        check_load(load)
    assert web.memory_bytes() < MAX_MEMORY
