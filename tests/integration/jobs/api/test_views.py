"""Submit, list, read, cancel, retry and the events of a job."""

from __future__ import annotations

import gc
from threading import Barrier, Thread
from typing import Any

import pytest
from django.db import connection

from jobs.dispatch.round import dispatch_round
from jobs.models import Attempt, Job
from myctobot.tenants.models import Tenant
from shards.models import Shard
from tests.factories.control_plane import (
    Api,
    Runner,
    analyze_many_jobs,
    error_of,
    fresh,
    make_job,
    make_tenant,
    running_job,
)

pytestmark = pytest.mark.django_db
BODY: dict[str, Any] = {"task": {"type": "prompt", "prompt": "Fix it."}, "capabilities": ["git"]}


@pytest.fixture
def api(tenant: Tenant, shard: Shard) -> Api:
    return Api.of(tenant)


class TestSubmit:
    def test_the_answer_is_the_job(self, api: Api) -> None:
        job = api.post("/jobs", BODY).json()
        assert job["status"] == "queued"
        assert job["waiting"]["code"] == "next"
        assert job["task"] == BODY["task"]
        assert (job["priority"], job["timeout_s"], job["max_turns"]) == ("normal", 3600, 50)
        assert (job["attempts"], job["events_count"], job["result"], job["error"]) == ([], 0, None, None)

    def test_capabilities_are_a_set(self, api: Api) -> None:
        job = api.post("/jobs", {**BODY, "capabilities": ["git", "filesystem", "git"]}).json()
        assert job["capabilities"] == ["filesystem", "git"]

    def test_white_space_in_a_prompt_stays(self, api: Api) -> None:
        task = {"type": "prompt", "prompt": "\n  indented\n\n"}
        assert api.post("/jobs", {**BODY, "task": task}).json()["task"] == task


class TestIdempotency:
    KEY = {"Idempotency-Key": "key-1"}

    def test_the_same_request_again_is_the_same_job(self, api: Api) -> None:
        first, second = (api.post("/jobs", BODY, **self.KEY) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["id"] == second.json()["id"]
        assert Job.objects.count() == 1

    def test_the_same_after_its_end(self, api: Api) -> None:
        first = api.post("/jobs", BODY, **self.KEY).json()["id"]
        api.post(f"/jobs/{first}/cancel")
        assert api.post("/jobs", BODY, **self.KEY).json()["id"] == first

    @pytest.mark.parametrize("change", [{"max_turns": 7}, {"anthropic_api_key": "sk-ant-0123456789"}])
    def test_another_request_is_refused(self, api: Api, change: dict[str, Any]) -> None:
        api.post("/jobs", BODY, **self.KEY)
        response = api.post("/jobs", {**BODY, **change}, **self.KEY)
        assert response.status_code == 409
        assert error_of(response)["code"] == "idempotency_mismatch"

    def test_keys_are_the_tenants_own(self, api: Api) -> None:
        api.post("/jobs", BODY, **self.KEY)
        assert Api.of(make_tenant("other")).post("/jobs", {**BODY, "max_turns": 7}, **self.KEY).status_code == 201

    def test_a_refused_request_uses_up_no_key(self, api: Api) -> None:
        assert api.post("/jobs", {**BODY, "max_turns": 0}, **self.KEY).status_code == 400
        assert api.post("/jobs", BODY, **self.KEY).status_code == 201


@pytest.mark.django_db(transaction=True)
def test_one_idempotency_key_at_once_makes_one_job(tenant: Tenant, shard: Shard) -> None:
    api, start, codes = Api.of(tenant), Barrier(6), []

    def send() -> None:
        start.wait(10)
        codes.append(
            Api(api.headers["Authorization"].split()[1]).post("/jobs", BODY, **TestIdempotency.KEY).status_code
        )
        connection.close()

    threads = [Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [200] * 5 + [201]
    assert Job.objects.count() == 1


def rows_in_memory() -> list[Job | Attempt]:
    # A weak reference would pass isinstance as what it refers to, or raise.
    return [kept for kept in gc.get_objects() if type(kept) in (Job, Attempt)]


class TestList:
    def test_newest_first_with_a_cursor_that_new_jobs_do_not_disturb(self, api: Api, tenant: Tenant) -> None:
        made = [make_job(tenant).public_id for _ in range(7)]
        seen: list[str] = []
        page = api.get("/jobs?limit=3").json()
        while True:
            seen += [job["id"] for job in page["results"]]
            if page["next"] is None:
                break
            make_job(tenant)
            page = api.http.get(page["next"], headers=api.headers).json()
        assert seen == made[::-1]

    def test_and_back(self, api: Api, tenant: Tenant) -> None:
        for _ in range(4):
            make_job(tenant)
        first = api.get("/jobs?limit=2").json()
        second = api.http.get(first["next"], headers=api.headers).json()
        back = api.http.get(second["previous"], headers=api.headers).json()
        assert back["results"] == first["results"]

    def test_by_status(self, api: Api, tenant: Tenant) -> None:
        one, two = make_job(tenant), make_job(tenant)
        api.post(f"/jobs/{one.public_id}/cancel")
        assert [job["id"] for job in api.get("/jobs?status=queued").json()["results"]] == [two.public_id]
        assert [job["id"] for job in api.get("/jobs?status=cancelled").json()["results"]] == [one.public_id]

    @pytest.mark.parametrize("letter", ["x", "ü", "€", "\U0001f600"])
    def test_long_texts_are_cut_and_their_sizes_given(self, api: Api, letter: str) -> None:
        text = "a" + letter * 2000
        body = {
            "task": {"type": "prompt", "prompt": text},
            "context": {"jira_cloud_id": "c", "additional_instructions": text},
        }
        job = api.post("/jobs", {**BODY, **body}).json()
        [row] = api.get("/jobs").json()["results"]
        task, context = row.pop("task"), row.pop("context")
        size, start = len(text.encode()), text.encode()[:1024].decode(errors="ignore")
        assert task == {"type": "prompt", "prompt": start, "prompt_bytes": size}
        assert context == {
            "jira_cloud_id": "c",
            "additional_instructions": start,
            "additional_instructions_bytes": size,
        }
        assert (job.pop("task"), job.pop("context")) == (body["task"], body["context"])
        assert {**row, "waiting": None} == {**job, "waiting": None}

    def test_a_text_that_fits_stays_whole(self, api: Api) -> None:
        api.post("/jobs", {**BODY, "task": {"type": "prompt", "prompt": "x" * 1024}})
        [row] = api.get("/jobs").json()["results"]
        assert row["task"] == {"type": "prompt", "prompt": "x" * 1024, "prompt_bytes": 1024}
        assert row["context"] == {}

    def test_a_page_of_the_largest_prompts_is_small(self, api: Api, tenant: Tenant) -> None:
        for _ in range(20):
            make_job(tenant, task={"type": "prompt", "prompt": "x" * 256 * 1024})
        page = api.get("/jobs?limit=200")
        assert len(page.json()["results"]) == 20
        assert len(page.content) < 20 * 3000

    def test_a_page_ends_at_one_mebibyte(self, api: Api, tenant: Tenant) -> None:
        for _ in range(10):
            make_job(tenant)
        Job.objects.update(result={"summary": "x" * 200 * 1024})
        first = api.get("/jobs?limit=10")
        assert len(first.json()["results"]) == 5
        assert len(first.content) <= 1024 * 1024 + 500
        assert len(api.http.get(first.json()["next"], headers=api.headers).json()["results"]) == 5

    def test_a_page_leaves_its_rows_not_to_the_garbage_collector(self, api: Api, tenant: Tenant) -> None:
        for _ in range(20):
            make_job(tenant)
        dispatch_round()
        api.get("/jobs")
        gc.collect()
        gc.disable()
        before = rows_in_memory()
        try:
            api.get("/jobs")
            left = [row for row in rows_in_memory() if not any(row is known for known in before)]
        finally:
            gc.enable()
        # A frame of an error that a library handled may keep the first and the last row.
        assert len(left) <= 2

    @pytest.mark.parametrize("status", ["failed", "cancelled"])
    def test_a_filter_by_status_reads_an_index(self, tenant: Tenant, status: str) -> None:
        rows = Job.objects.filter(tenant=tenant, status=status).order_by("-id")[:51]
        analyze_many_jobs(tenant)
        assert "jobs_that_did_not_complete" in rows.explain()

    def test_it_asks_the_database_the_same_number_of_times_for_many(
        self, api: Api, tenant: Tenant, django_assert_max_num_queries: Any
    ) -> None:
        for _ in range(20):
            make_job(tenant)
        dispatch_round()
        # Six for the page, and seven for why they wait, as of one moment.
        with django_assert_max_num_queries(13):
            api.get("/jobs")


class TestCancel:
    def test_a_waiting_job_ends_at_once(self, api: Api, tenant: Tenant) -> None:
        job = make_job(tenant)
        response = api.post(f"/jobs/{job.public_id}/cancel")
        assert response.status_code == 200
        assert response.json()["status"] == "cancelled"
        assert response.json()["error"]["code"] == "cancelled"

    def test_a_sent_attempt_is_withdrawn(self, api: Api, tenant: Tenant, key: str) -> None:
        job = make_job(tenant)
        dispatch_round()
        api.post(f"/jobs/{job.public_id}/cancel")
        assert Attempt.objects.get().state == "withdrawn"
        assert Runner(key, job).claim().status_code == 409

    def test_a_running_job_is_asked_to_stop(self, api: Api, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        assert runner.events().json()["cancel"] is False
        response = api.post(f"/jobs/{job.public_id}/cancel")
        assert response.status_code == 202
        assert response.json()["status"] == "running"
        assert response.json()["cancel_requested_at"] is not None
        assert runner.events().json()["cancel"] is True

    def test_twice_is_the_same_as_once(self, api: Api, tenant: Tenant, key: str) -> None:
        running, _ = running_job(tenant, key)
        first, second = (api.post(f"/jobs/{running.public_id}/cancel").json() for _ in range(2))
        assert first == second
        waiting = make_job(tenant)
        assert [api.post(f"/jobs/{waiting.public_id}/cancel").status_code for _ in range(2)] == [200, 200]

    @pytest.mark.parametrize("outcome", ["completed", "failed"])
    def test_what_has_ended_cannot_be_cancelled(self, api: Api, tenant: Tenant, key: str, outcome: str) -> None:
        job, runner = running_job(tenant, key)
        runner.finish(outcome, error={"code": "x", "message": "It broke.", "retryable": False})
        response = api.post(f"/jobs/{job.public_id}/cancel")
        assert response.status_code == 409
        assert error_of(response)["code"] == "job_finished"
        assert outcome in error_of(response)["message"]


class TestRetry:
    def test_a_new_job_with_the_same_request(self, api: Api, tenant: Tenant) -> None:
        old = make_job(tenant, timeout_s=77, context={"additional_instructions": "Tabs."})
        api.post(f"/jobs/{old.public_id}/cancel")
        response = api.post(f"/jobs/{old.public_id}/retry")
        new = response.json()
        assert response.status_code == 201
        assert new["id"] != old.public_id
        assert (new["retry_of"], new["timeout_s"], new["task"]) == (old.public_id, 77, old.task)
        assert new["context"] == old.context
        assert fresh(old).status == "cancelled"

    def test_a_job_that_has_not_ended(self, api: Api, tenant: Tenant) -> None:
        response = api.post(f"/jobs/{make_job(tenant).public_id}/retry")
        assert response.status_code == 409
        assert error_of(response)["code"] == "job_not_finished"

    def test_secrets_that_were_wiped_are_asked_for(self, api: Api, tenant: Tenant) -> None:
        old = make_job(tenant, secrets={"repo_token": "ghp_0123456789", "jira_token": "jira-0123456789"})
        api.post(f"/jobs/{old.public_id}/cancel")
        response = api.post(f"/jobs/{old.public_id}/retry", {"repo_token": "ghp_0123456789"})
        assert response.status_code == 409
        assert error_of(response)["code"] == "secrets_required"
        assert error_of(response)["secrets"] == ["jira_token"]
        again = {"repo_token": "ghp_0123456789", "jira_token": "jira-0123456789"}
        assert api.post(f"/jobs/{old.public_id}/retry", again).status_code == 201

    def test_a_token_for_a_job_without_a_repository(self, api: Api, tenant: Tenant) -> None:
        old = make_job(tenant, task=BODY["task"])
        api.post(f"/jobs/{old.public_id}/cancel")
        response = api.post(f"/jobs/{old.public_id}/retry", {"repo_token": "ghp_0123456789"})
        assert response.status_code == 400
        assert list(error_of(response)["fields"]) == ["repo_token"]
        assert Job.objects.count() == 1

    @pytest.mark.parametrize("name", ["repo_token", "anthropic_api_key", "jira_token"])
    def test_a_secret_that_the_old_job_shows(self, api: Api, tenant: Tenant, name: str) -> None:
        old = make_job(tenant, context={"additional_instructions": "Use ghp_0123456789."})
        api.post(f"/jobs/{old.public_id}/cancel")
        response = api.post(f"/jobs/{old.public_id}/retry", {name: "ghp_0123456789"})
        assert response.status_code == 400
        assert "context.additional_instructions" in error_of(response)["fields"][name][0]
        assert Job.objects.count() == 1

    def test_one_key_retries_once(self, api: Api, tenant: Tenant) -> None:
        old = self._ended(api, tenant)
        path, key = f"/jobs/{old.public_id}/retry", {"Idempotency-Key": "again-1"}
        first, second = (api.post(path, {}, **key) for _ in range(2))
        assert (first.status_code, second.status_code) == (201, 200)
        assert first.json()["id"] == second.json()["id"]
        assert first.headers["Location"] == second.headers["Location"]
        assert old.retries.count() == 1

    @pytest.mark.parametrize("used_for", ["a submit", "another job's retry", "other secrets"])
    def test_a_key_that_was_used_for_something_else(self, api: Api, tenant: Tenant, used_for: str) -> None:
        old, key = self._ended(api, tenant), {"Idempotency-Key": "again-1"}
        if used_for == "a submit":
            api.post("/jobs", {**BODY, "task": old.task}, **key)
        elif used_for == "another job's retry":
            api.post(f"/jobs/{self._ended(api, tenant).public_id}/retry", {}, **key)
        else:
            api.post(f"/jobs/{old.public_id}/retry", {"repo_token": "ghp_0123456789"}, **key)
        before = Job.objects.count()
        response = api.post(f"/jobs/{old.public_id}/retry", {}, **key)
        assert error_of(response)["code"] == "idempotency_mismatch"
        assert Job.objects.count() == before

    @pytest.mark.parametrize("key", ["", "k" * 201, "ghp_0123456789"])
    def test_a_key_that_cannot_be_kept(self, api: Api, tenant: Tenant, key: str) -> None:
        old = self._ended(api, tenant)
        body = {"repo_token": "ghp_0123456789"}
        response = api.post(f"/jobs/{old.public_id}/retry", body, **{"Idempotency-Key": key})
        assert list(error_of(response)["fields"]) == ["Idempotency-Key"]
        assert Job.objects.count() == 1

    def _ended(self, api: Api, tenant: Tenant) -> Job:
        job = make_job(tenant)
        api.post(f"/jobs/{job.public_id}/cancel")
        return job

    @pytest.mark.parametrize("body", [{"prompt": "x"}, {"repo_token": 5}, {"repo_token": {"secret": "nowhere"}}])
    def test_an_invalid_body(self, api: Api, tenant: Tenant, body: dict[str, Any]) -> None:
        old = make_job(tenant)
        api.post(f"/jobs/{old.public_id}/cancel")
        response = api.post(f"/jobs/{old.public_id}/retry", body)
        assert response.status_code == 400
        assert list(error_of(response)["fields"]) == list(body)


class TestEvents:
    def test_a_page_after_a_number(self, api: Api, tenant: Tenant, key: str) -> None:
        job, runner = running_job(tenant, key)
        runner.events("one", "two")
        runner.events("three")
        page = api.get(f"/jobs/{job.public_id}/events?after=1&limit=1").json()
        assert [event["data"]["text"] for event in page["events"]] == ["two"]
        assert (page["next_after"], page["more"], page["status"]) == (2, True, "running")
        rest = api.get(f"/jobs/{job.public_id}/events?after=2").json()
        assert [event["seq"] for event in rest["events"]] == [3]
        assert (rest["next_after"], rest["more"]) == (3, False)

    @pytest.mark.parametrize("after", [3, 2**53])
    def test_past_the_end(self, api: Api, tenant: Tenant, key: str, after: int) -> None:
        job, runner = running_job(tenant, key)
        runner.events("one", "two", "three")
        page = api.get(f"/jobs/{job.public_id}/events?after={after}").json()
        assert (page["events"], page["next_after"], page["more"]) == ([], after, False)


def test_a_job_shows_its_attempts(api: Api, tenant: Tenant, key: str, shard: Shard) -> None:
    job, runner = running_job(tenant, key)
    runner.events("x")
    shown = api.get(f"/jobs/{job.public_id}").json()
    assert (shown["status"], shown["phase"], shown["waiting"], shown["events_count"]) == (
        "running",
        "preparing",
        None,
        1,
    )
    (attempt,) = shown["attempts"]
    assert (attempt["number"], attempt["state"], attempt["shard"]) == (1, "running", shard.name)
    assert attempt["queue"] == "cap.filesystem+git"


def test_a_failed_job_says_why(api: Api, tenant: Tenant, key: str) -> None:
    job, runner = running_job(tenant, key)
    runner.finish("failed", error={"code": "clone_failed", "message": "No such repository.", "retryable": False})
    shown = api.get(f"/jobs/{job.public_id}").json()
    assert shown["error"] == {"code": "clone_failed", "message": "No such repository.", "retryable": False}
    assert shown["finished_at"] is not None
