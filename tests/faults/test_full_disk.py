"""Full disks: the jobs of a shard move to another one, and a log without room stops no service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.client import Client
from tests.faults.effects import World, check_effects, submit_push_job, world
from tests.faults.small_disk import fill, small_disk
from tests.fixtures.broker import eventually

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("disk"), "--shards", "2") as made:
        yield made


def database_url(client: Client) -> str:
    lines = (client.stack.home / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)["DATABASE_URL"]


def activate_only(client: Client, *names: str) -> None:
    """Activate only these shards."""
    with psycopg.connect(database_url(client)) as connection:
        connection.execute("UPDATE shards_shard SET is_active = (name = ANY(%s))", [list(names)])


def claimed_attempts(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the claimed attempts; a shard that was just deactivated may have received and refused another one."""
    return [attempt for attempt in job["attempts"] if attempt["claimed_at"]]


def test_jobs_leave_a_shard_with_a_full_disk_and_return(place: World, tmp_path: Path) -> None:
    client = place.client
    with small_disk(client, tmp_path) as disk:
        full = disk / "full"
        fill(full)
        activate_only(client, "local")
        push = submit_push_job(place, "disk-full", 1)
        job = client.wait(push.job_id, lambda job: bool(claimed_attempts(job)) and claimed_attempts(job)[0]["ended_at"])
        assert claimed_attempts(job)[0]["error_code"] == "disk_full", job
        # The incomplete workspace was removed.
        assert {path.name for path in disk.iterdir()} == {"full"}
        activate_only(client, "local", "local-2")
        failed, done = claimed_attempts(check_effects(place, push))
        assert (failed["shard"], failed["outcome"], done["shard"]) == ("local", "failed", "local-2")
        activate_only(client, "local")
        full.unlink()
        again = check_effects(place, submit_push_job(place, "disk-free", 1))
        assert [attempt["shard"] for attempt in claimed_attempts(again)] == ["local"]


def test_a_database_answers_while_its_log_has_no_room(place: World) -> None:
    log = place.client.stack.home / "log" / "postgres.log"
    kept = log.rename(log.with_suffix(".kept"))
    log.symlink_to("/dev/full")
    with psycopg.connect(database_url(place.client), autocommit=True) as connection:
        try:
            # Each error is two lines, so that they fill the pipe to the supervisor several times.
            for _ in range(4000):
                with suppress(psycopg.errors.DivisionByZero):
                    connection.execute("SELECT 1/0")
            check_effects(place, submit_push_job(place, "log-full", 1))
        finally:
            log.unlink()
            kept.rename(log)
        with suppress(psycopg.errors.DivisionByZero):
            connection.execute("SELECT 1/0")
    eventually(lambda: "lines were lost here: [Errno 28]" in log.read_text(), "the log says what it lost")
