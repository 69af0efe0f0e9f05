"""Full disk below a whole stack: its data, its logs, its workspaces and its own output."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from myctobot.stack.postgres import EmbeddedPostgres
from tests.faults.effects import TOKEN, World, check_effects, submit_push_job, world
from tests.faults.small_disk import kept_full, mounted_disk
from tests.fixtures.broker import eventually
from tests.fixtures.http_process import wait_until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.needs("root"),
    pytest.mark.timeout(600),
]

SIZE_MB = 512
# A health check has an answer after 3 s, and one that was asked within the last second is used again.
HEALTH_S = 5
# PostgreSQL has room in some files for this time.
SOON_S = 4
MORE_S = 60
# Longer than each limit on a statement of web and shard API.
HANGS_S = 60
FULL, NO_ANSWER = "PostgreSQL's disk is full.", "PostgreSQL does not answer."


@dataclass
class Observations:
    """Answers of the stack while its disk is full: of health checks, and of submits."""

    health: list[tuple[float, httpx.Response]] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)

    @property
    def late_health(self) -> list[httpx.Response]:
        """Answers of health checks after PostgreSQL has used the room in its files."""
        return [answer for at, answer in self.health if at > SOON_S]

    def is_complete(self) -> bool:
        """Tell whether a submit was refused, and a late health check named the full disk."""
        return bool(self.refused) and any(answer.json().get("problem") == FULL for answer in self.late_health)


def health(place: World) -> httpx.Response:
    return httpx.get(f"{place.client.stack.web_url}/healthz", timeout=HEALTH_S, trust_env=False)


def submit(place: World, branch: str, seen: Observations) -> None:
    """Submit a job once, with a text that needs some room in the tables."""
    repository = {"repo_url": place.git.url(place.remote.name), "repo_token": TOKEN, "branch": branch}
    task = {"type": "prompt", "prompt": f"RUN: echo done > done.txt\n{'x' * 20_000}", **repository}
    answer = place.client.http.post("/jobs", json={"task": task, "capabilities": ["filesystem"]})
    if answer.status_code == 201:
        seen.accepted.append(answer.json()["id"])
    else:
        seen.refused.append(answer)


def observe_full(place: World, disk: Path, seconds: int) -> Observations:
    """Keep the disk full for some seconds, and at most a minute longer until there is something to judge.

    PostgreSQL has room in some files, and it does not answer while it restarts because its log cannot be written.
    """
    seen, began = Observations(), time.monotonic()
    with kept_full(disk):
        while (at := time.monotonic() - began) < seconds or (at < seconds + MORE_S and not seen.is_complete()):
            seen.health.append((at, health(place)))
            submit(place, f"full-{len(seen.health)}", seen)
            time.sleep(0.3)
    return seen


def hanging_backends(place: World) -> int:
    with psycopg.connect(EmbeddedPostgres(place.client.stack.home).url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND state <> 'idle'"
            " AND xact_start < now() - make_interval(secs => %s)",
            [HANGS_S],
        ).fetchone()
    assert row
    return int(row[0])


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    with mounted_disk(tmp_path, request.param, SIZE_MB) as found:
        yield found


def check_full_disk(folder: Path, disk: Path, seconds: int) -> None:
    """Run a job, fill the disk, free it, and check that everything goes on."""
    with world(folder, home=disk / "home") as place:
        first = submit_push_job(place, "first", 8)
        eventually(lambda: place.client.job(first.job_id)["phase"] == "agent", "the agent runs")
        seen = observe_full(place, disk, seconds)
        assert seen.refused, "the disk was not full"
        assert {answer.status_code for answer in seen.refused} == {503}
        assert {answer.status_code for answer in seen.late_health} == {503}
        assert FULL in {answer.json()["problem"] for answer in seen.late_health} <= {FULL, NO_ANSWER}
        assert wait_until(lambda: health(place).status_code == 200, 60)
        check_effects(place, first)
        for job_id in seen.accepted:
            assert place.client.wait_end(job_id, 240)["status"] == "completed"
        check_effects(place, submit_push_job(place, "next", 1))
        assert hanging_backends(place) == 0
        assert place.client.stack.process.poll() is None
        assert "lines were lost here: [Errno 28]" in place.client.stack.output()


@pytest.mark.parametrize("disk", ["tmpfs", "ext4"], indirect=True)
def test_a_stack_goes_on_after_its_disk_was_full(tmp_path: Path, disk: Path) -> None:
    check_full_disk(tmp_path, disk, 10)


@pytest.mark.long
@pytest.mark.parametrize("disk", ["tmpfs", "ext4"], indirect=True)
def test_a_stack_goes_on_after_its_disk_was_full_for_a_minute(tmp_path: Path, disk: Path) -> None:
    check_full_disk(tmp_path, disk, 60)
