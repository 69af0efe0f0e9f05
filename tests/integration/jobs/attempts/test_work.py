"""Kept work in the calls of runners: stored encrypted and in bounds, and given to the next attempt."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from django.db.models.functions import Now
from django.test import Client

from jobs.dispatch.round import dispatch_round
from jobs.kept_work.storage import read_file, remove_expired, work_of
from jobs.lifecycle.push import push_again
from jobs.lifecycle.reaper import recover
from jobs.models import Job, KeptWork, KeptWorkPart
from myctobot.contract.limits import LEASE_S, LOST_AFTER_S
from myctobot.contract.work import WORK_PART_BYTES
from myctobot.tenants.authentication import Caller
from myctobot.tenants.key_rotation import rotate
from myctobot.tenants.models import Role, Tenant
from shards.models import Shard, ShardState
from tests.factories.control_plane import (
    Runner,
    age,
    attempts_of,
    end_pause,
    error_of,
    fresh,
    make_shard,
    make_tenant,
    running_job,
    whole_database,
)
from tests.factories.kept_work import BUNDLE, HEAD, manifest, read, store

pytestmark = pytest.mark.django_db

UNREACHABLE = {"code": "repo_unreachable", "message": "Busy.", "retryable": True}


def next_attempt(job: Job, key: str) -> tuple[Runner, dict[str, Any]]:
    """Return the runner of the next attempt, and the answer to its claim."""
    end_pause(job)
    dispatch_round()
    runner = Runner(key, job, fresh(job).attempt_number, token="v" * 40)
    return runner, runner.claim().json()


@pytest.fixture
def running(tenant: Tenant, key: str) -> tuple[Job, Runner]:
    return running_job(tenant, key)


def test_the_next_attempt_gets_the_work_instead_of_a_task_for_the_agent(running: tuple[Job, Runner], key: str) -> None:
    job, runner = running
    assert store(runner, manifest=manifest()).json()["expires_at"] is not None
    runner.finish("failed", error=UNREACHABLE)
    assert fresh(job).status == "queued"
    second, answer = next_attempt(job, key)
    assert (answer["work"], answer["gateway"]["url"]) == (manifest(), "")
    assert base64.b64decode(read(second).json()["data"]) == BUNDLE


def test_work_of_an_agent_that_did_not_end_well_is_kept_and_not_pushed(running: tuple[Job, Runner], key: str) -> None:
    job, runner = running
    store(runner, manifest=manifest(ready=False))
    runner.finish("failed", error={"code": "lost", "message": "Away.", "retryable": True})
    second, answer = next_attempt(job, key)
    assert (answer.get("work"), error_of(read(second))["code"]) == (None, "unknown_work")
    kept = work_of(job)
    assert kept is not None
    assert b"".join(read_file(kept.pk, "bundle")) == BUNDLE


def lose_shard(job: Job) -> None:
    """End a job's attempt as the control plane does when its shard vanishes with the runner."""
    age(attempts_of(job)[-1], "lease_until", LOST_AFTER_S - LEASE_S + 1)
    recover()
    Shard.objects.update(state=ShardState.GONE)


@pytest.mark.parametrize("ready", [True, False])
def test_work_outlives_the_shard_that_stored_it(running: tuple[Job, Runner], ready: bool) -> None:
    job, runner = running
    store(runner, manifest=manifest(ready=ready))
    lose_shard(job)
    assert attempts_of(job)[0].state == "lost"
    _, other = make_shard("other", "git")
    second, answer = next_attempt(job, other)
    # Only finished work takes the place of the agent.
    assert answer.get("work") == (manifest() if ready else None)
    assert (read(second).status_code == 200) is ready
    kept = work_of(job)
    assert kept is not None
    assert b"".join(read_file(kept.pk, "bundle")) == BUNDLE


def test_work_of_a_lost_job_can_be_pushed_by_a_person(tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    Job.objects.filter(pk=job.pk).update(max_attempts=1)
    store(runner, manifest=manifest(ready=False))
    lose_shard(job)
    assert (fresh(job).status, fresh(job).error_code) == ("failed", "lost")
    _, other = make_shard("other", "git")
    push, _ = push_again(Caller(tenant, Role.MEMBER), job.public_id, {})
    dispatch_round()
    again = Runner(other, push)
    assert again.claim().json()["work"]["head"] == HEAD
    assert base64.b64decode(read(again).json()["data"]) == BUNDLE


def test_work_without_its_manifest_is_not_work(running: tuple[Job, Runner], key: str) -> None:
    job, runner = running
    assert store(runner).json() == {"expires_at": None}
    runner.finish("failed", error=UNREACHABLE)
    assert next_attempt(job, key)[1].get("work") is None
    assert work_of(job) is None


def test_a_later_attempts_work_takes_the_place_of_the_first(running: tuple[Job, Runner], key: str) -> None:
    job, runner = running
    store(runner, manifest=manifest(ready=False))
    runner.finish("failed", error={"code": "lost", "message": "Away.", "retryable": True})
    second, _ = next_attempt(job, key)
    store(second, b"newer", manifest=manifest(size=5))
    kept = KeptWork.objects.get()
    assert (kept.attempt_number, b"".join(read_file(kept.pk, "bundle"))) == (2, b"newer")


def test_parts_are_read_in_their_order_and_a_repeated_part_counts_once(running: tuple[Job, Runner]) -> None:
    job, runner = running
    parts = [bytes([number]) * 100 for number in range(12)]
    for number, part in enumerate(parts):
        store(runner, part, number)
    store(runner, parts[3], 3)
    assert store(runner, parts[11], 11, manifest=manifest(size=1200)).status_code == 200
    kept = work_of(job)
    assert kept is not None
    assert (kept.stored_bytes, kept.bundle_bytes) == (1200, 1200)
    assert b"".join(read_file(kept.pk, "bundle")) == b"".join(parts)
    # What is complete does not change any more.
    assert error_of(store(runner, b"x", 4))["code"] == "work_too_large"


def test_it_is_encrypted_and_rotated_with_the_other_secrets(running: tuple[Job, Runner], settings: Any) -> None:
    job, runner = running
    store(runner, manifest=manifest())
    assert "canary-of-the-bundle" not in whole_database()
    assert base64.b64encode(BUNDLE).decode() not in whole_database()
    new_key = base64.urlsafe_b64encode(b"n" * 32).decode()
    settings.SECRETS_KEYS = [new_key, *settings.SECRETS_KEYS]
    assert rotate([KeptWork, KeptWorkPart]).done == 2
    settings.SECRETS_KEYS = [new_key]
    kept = work_of(job)
    assert kept is not None
    assert b"".join(read_file(kept.pk, "bundle")) == BUNDLE


def test_no_part_can_take_the_place_of_another(running: tuple[Job, Runner]) -> None:
    _, runner = running
    for number in range(2):
        store(runner, b"part", number)
    first, second = KeptWorkPart.objects.order_by("number")
    KeptWorkPart.objects.filter(pk=first.pk).update(sealed=second.sealed)
    Job.objects.update(work=first.work_id)
    assert error_of(read(runner))["code"] == "unknown_work"
    assert read(runner, 1).status_code == 200


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"file": "../x"}, "file"),
        ({"number": -1}, "number"),
        ({"number": 10**9}, "number"),
        ({"data": "not base64!"}, "data"),
        ({"data": base64.b64encode(b"x" * (WORK_PART_BYTES + 1)).decode()}, "data"),
        ({"manifest": manifest(head="--output=x")}, "manifest.head"),
        ({"manifest": manifest(files={})}, "manifest.files"),
        ({"manifest": manifest(branch="x" * 300)}, "manifest.branch"),
        ({"manifest": manifest(result={"summary": "x" * 300_000})}, "manifest.result"),
        ({"manifest": []}, "manifest"),
    ],
)
def test_wrong_fields_are_named(running: tuple[Job, Runner], changes: dict[str, Any], field: str) -> None:
    refused = store(running[1], **changes)
    assert refused.status_code == 400
    assert field in error_of(refused)["fields"]
    assert not KeptWorkPart.objects.exists()


def test_only_the_runner_of_the_running_attempt_stores_and_reads(running: tuple[Job, Runner]) -> None:
    job, runner = running
    store(runner, manifest=manifest())
    _, other = make_shard("other")
    for stranger in (Runner(key="mcts_unknown", job=job), Runner(other, job), Runner(runner_key(runner), job, 2)):
        assert {store(stranger).status_code, read(stranger).status_code} <= {401, 409}
    stranger = Runner(runner_key(runner), job, token="u" * 40)
    assert (store(stranger).status_code, read(stranger).status_code) == (409, 409)
    runner.finish()
    assert (error_of(store(runner))["code"], error_of(read(runner))["code"]) == ("fenced", "fenced")
    response = Client().get(f"/shard/v1/jobs/{job.public_id}/artifacts/work")
    assert response.status_code == 401


def runner_key(runner: Runner) -> str:
    return runner.headers["Authorization"].removeprefix("Bearer ")


def test_other_methods_have_no_call(running: tuple[Job, Runner]) -> None:
    job, runner = running
    for method, path in (("get", "artifacts/work"), ("delete", "artifacts/work"), ("put", "events")):
        assert runner.send(method, f"/jobs/{job.public_id}/{path}").status_code == 405
    assert runner.send("put", f"/jobs/{job.public_id}/artifacts/other").status_code == 404


def test_one_job_has_a_bound(running: tuple[Job, Runner], settings: Any) -> None:
    settings.WORK_MAX_MB = 1
    _, runner = running
    part = b"x" * WORK_PART_BYTES
    answers = [store(runner, part, number) for number in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 409]
    assert error_of(answers[2])["code"] == "work_too_large"


def test_the_manifest_must_name_what_is_stored(running: tuple[Job, Runner]) -> None:
    _, runner = running
    assert error_of(store(runner, manifest=manifest(size=1)))["code"] == "work_too_large"
    assert not KeptWork.objects.filter(is_complete=True).exists()


def test_a_tenant_has_a_bound_in_which_completed_and_old_work_gives_way(tenant: Tenant, settings: Any) -> None:
    settings.WORK_TENANT_MAX_MB = 1
    _, key = make_shard("roomy", slots=9)
    part = b"x" * WORK_PART_BYTES
    jobs: list[Job] = []
    for outcome in ("failed", "completed", "running"):
        job, runner = running_job(tenant, key)
        jobs.append(job)
        assert store(runner, part, manifest=manifest(size=len(part))).status_code == 200
        if outcome != "running":
            runner.finish(outcome, error={"code": "push_denied", "message": "No.", "retryable": False})
    assert [work_of(job) is not None for job in jobs] == [True, False, True]
    other_job, other = running_job(make_tenant("other"), key)
    assert store(other, part, manifest=manifest(size=len(part))).status_code == 200
    _, runner = running_job(tenant, key)
    assert store(runner, part).status_code == 200
    # The failed job's work is gone now, and live jobs keep theirs.
    assert [work_of(job) is not None for job in (*jobs, other_job)] == [False, False, True, True]
    assert error_of(store(runner, part, 1))["code"] == "work_too_large"


def test_expired_work_is_removed_unless_a_live_job_needs_it(running: tuple[Job, Runner], tenant: Tenant) -> None:
    job, runner = running
    store(runner, manifest=manifest())
    KeptWork.objects.update(expires_at=Now())
    assert remove_expired() == 0
    runner.finish("failed", error={"code": "push_denied", "message": "No.", "retryable": False})
    assert work_of(job) is None
    assert remove_expired() == 1
    assert (KeptWorkPart.objects.count(), fresh(job).work_id) == (0, None)
