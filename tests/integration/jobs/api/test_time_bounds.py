"""The fields that say when a job starts, how long it waits and what is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.models import Job
from tests.factories.control_plane import Api
from tests.factories.requests import VALID, api, changed, refused

pytestmark = pytest.mark.django_db
__all__ = ["api"]


def test_all_of_them_are_the_jobs(api: Api) -> None:
    at = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0)
    bounds = {
        "queue_timeout_s": 5400,
        "no_output_timeout_s": 60,
        "concurrency": {"key": "nightly", "limit": 3},
        "retry": {"max_attempts": 4, "on": ["agent", "timeout"]},
    }
    answer = api.post("/jobs", {**VALID, **bounds, "not_before": at.isoformat()}).json()
    assert {name: answer[name] for name in bounds} == bounds
    assert datetime.fromisoformat(answer["not_before"]) == at
    assert answer["waiting"]["code"] == "parked"


def test_without_them_it_is_as_the_settings_say(api: Api, settings: Any) -> None:
    settings.QUEUE_TIMEOUT_S, settings.NO_OUTPUT_TIMEOUT_S, settings.RUN_TIMEOUT_S = 111, 0, 333
    body = {name: value for name, value in VALID.items() if name != "timeout_s"}
    answer = api.post("/jobs", body).json()
    assert (answer["queue_timeout_s"], answer["no_output_timeout_s"], answer["timeout_s"]) == (111, None, 333)
    assert answer["retry"] == {"max_attempts": 2, "on": ["infrastructure"]}


def test_null_lifts_a_bound_that_is_usual(api: Api, settings: Any) -> None:
    settings.QUEUE_TIMEOUT_S = settings.NO_OUTPUT_TIMEOUT_S = 111
    answer = api.post("/jobs", {**VALID, "queue_timeout_s": None, "no_output_timeout_s": None}).json()
    assert (answer["queue_timeout_s"], answer["no_output_timeout_s"]) == (None, None)


def test_a_time_in_the_past_parks_no_job(api: Api) -> None:
    assert api.post("/jobs", {**VALID, "not_before": "2020-01-01T00:00:00Z"}).json()["waiting"]["code"] == "next"


@pytest.mark.parametrize("name", ["queue_timeout_s", "no_output_timeout_s"])
@pytest.mark.parametrize(
    "value", [True, "60", 1.5, [], {}, -1, 0, 10**9, 10**400, ""], ids=lambda value: repr(value)[:9]
)
def test_seconds_that_are_none_or_impossible(api: Api, name: str, value: Any) -> None:
    assert list(refused(api, changed(name, value))["fields"]) == [name]


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("not_before", None, "not_before"),
        ("not_before", 5, "not_before"),
        ("not_before", "tomorrow", "not_before"),
        ("not_before", "2999-01-01T00:00:00Z", "not_before"),
        ("not_before", "0001-01-01T00:00:00+23:00", "not_before"),
        ("not_before", "2026-12-01", "not_before"),
        ("not_before", "2026-W49-2", "not_before"),
        ("not_before", "2026-12-01T00:00:00Z\n", "not_before"),
        ("not_before", "\u0662\u0660\u0662\u0666-12-01T00:00:00Z", "not_before"),
        ("not_before", "20261201T000000Z", "not_before"),
        ("not_before", "2026-13-01T00:00:00Z", "not_before"),
        ("not_before", "2026-12-01T24:00:01Z", "not_before"),
        ("not_before", "2026-12-01T00:00:00+25:00", "not_before"),
        ("concurrency", "nightly", "concurrency"),
        ("concurrency", {}, "concurrency.key"),
        ("concurrency", {"limit": 2}, "concurrency.key"),
        ("concurrency", {"key": ""}, "concurrency.key"),
        ("concurrency", {"key": "a\x00"}, "concurrency.key"),
        ("concurrency", {"key": "k" * 301}, "concurrency.key"),
        ("concurrency", {"key": "k", "limit": 0}, "concurrency.limit"),
        ("concurrency", {"key": "k", "limit": 1001}, "concurrency.limit"),
        ("concurrency", {"key": "k", "limit": "2"}, "concurrency.limit"),
        ("concurrency", {"key": "k", "most": 2}, "concurrency.most"),
        ("retry", 3, "retry"),
        ("retry", {"max_attempts": 0}, "retry.max_attempts"),
        ("retry", {"max_attempts": 11}, "retry.max_attempts"),
        ("retry", {"max_attempts": "2"}, "retry.max_attempts"),
        ("retry", {"on": "agent"}, "retry.on"),
        ("retry", {"on": ["request"]}, "retry.on.0"),
        ("retry", {"on": ["agent"] * 4}, "retry.on"),
        ("retry", {"pause_s": 5}, "retry.pause_s"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(api: Api, field: str, value: Any, named: str) -> None:
    assert list(refused(api, changed(field, value))["fields"]) == [named]


def test_the_same_cause_twice_is_one(api: Api) -> None:
    answer = api.post("/jobs", {**VALID, "retry": {"on": ["timeout", "agent", "timeout"]}}).json()
    assert answer["retry"]["on"] == ["agent", "timeout"]


def test_a_key_that_holds_a_secret_of_the_request(api: Api) -> None:
    token = "ghp_canary-in-the-key-1234"
    task = {**VALID["task"], "repo_token": token}
    assert list(refused(api, {**VALID, "task": task, "concurrency": {"key": f"x {token}"}})["fields"]) == [
        "concurrency.key"
    ]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "2020-01-01T08:30:00Z",
        "2020-01-01t08:30:00z",
        "2020-01-01 08:30:00.000Z",
        "2020-01-01T09:30:00+01:00",
        "2020-01-01T08:30:00",
        "2020-01-01T08:30",
    ],
)
def test_forms_of_a_time(api: Api, text: str) -> None:
    answer = api.post("/jobs", {**VALID, "not_before": text})
    assert (answer.status_code, answer.json()["not_before"]) == (201, "2020-01-01T08:30:00Z")
