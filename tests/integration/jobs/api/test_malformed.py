"""Bodies, addresses and headers that are no request at all."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.models import Job
from myctobot.contract.limits import MAX_PROMPT_BYTES, MAX_REQUEST_BYTES
from tests.factories.control_plane import Api, error_of
from tests.factories.requests import VALID, api, changed, refused

pytestmark = pytest.mark.django_db
__all__ = ["api"]


def test_a_prompt_over_the_bound(api: Api) -> None:
    error = refused(api, changed("task.prompt", "ü" * (MAX_PROMPT_BYTES // 2 + 1)))
    assert error["message"] == f"task.prompt: Has {MAX_PROMPT_BYTES + 2} bytes; the maximum is {MAX_PROMPT_BYTES}."


def test_a_prompt_at_the_bound(api: Api) -> None:
    assert api.post("/jobs", changed("task.prompt", "x" * MAX_PROMPT_BYTES)).status_code == 201


def test_a_task_of_five_megabytes(api: Api) -> None:
    error = refused(api, changed("task.prompt", "x" * 5 * 2**20), status=413)
    assert error["code"] == "request_too_large"
    assert str(MAX_REQUEST_BYTES) in error["message"]


def test_a_large_body_is_refused_despite_its_content_length(api: Api) -> None:
    body = json.dumps(changed("task.prompt", "x" * 5 * 2**20)).encode()
    response = api.http.generic(
        "POST", "/api/v1/jobs", body, "application/json", headers=api.headers, CONTENT_LENGTH=""
    )
    assert response.status_code in (400, 413)
    assert Job.objects.count() == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'a': 1}",
        b'{"task": NaN}',
        b'{"timeout_s": 1e400}',
        b'{"timeout_s": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"task": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"a": 1} trailing',
        b'{"task": {}, "task": {}}',
    ],
    ids=lambda body: repr(body)[:24],
)
def test_malformed_json(api: Api, body: bytes) -> None:
    assert refused(api, body)["message"]


def test_a_repeated_key_is_named(api: Api) -> None:
    body = json.dumps(VALID).replace('"issue_key"', '"prompt": "Do something else.", "issue_key"')
    error = refused(api, body.encode())
    assert error["code"] == "parse_error"
    assert "'prompt' occurs twice" in error["message"]


@pytest.mark.parametrize("body", [[], "text", 5, None, True, [VALID]], ids=lambda body: repr(body)[:10])
def test_a_body_that_is_no_object(api: Api, body: Any) -> None:
    assert refused(api, json.dumps(body).encode())["message"]


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type(api: Api, content_type: str) -> None:
    response = api.http.generic("POST", "/api/v1/jobs", json.dumps(VALID), content_type, headers=api.headers)
    assert response.status_code == 415
    assert error_of(response)["code"] == "unsupported_media_type"
    assert Job.objects.count() == 0


def test_several_mistakes_are_all_named(api: Api) -> None:
    body = changed("task.branch", "a b")
    body["timeout_s"] = "soon"
    error = refused(api, body)
    assert set(error["fields"]) == {"task.branch", "timeout_s"}
    assert "(and 1 more)" in error["message"]


@pytest.mark.parametrize("place", ["", "task."])
def test_thousands_of_unknown_fields_are_counted(api: Api, place: str) -> None:
    unknown = {f"x{number:05}": 1 for number in range(70_000)}
    body = changed("task", {**VALID["task"], **unknown}) if place else {**VALID, **unknown}
    error = refused(api, body)
    others = error["fields"].pop(place.rstrip(".") or "request")
    assert others == ["Has 69980 more unknown fields."]
    assert sorted(error["fields"]) == [f"{place}x{number:05}" for number in range(20)]
    assert len(json.dumps(error)) < 20_000


@pytest.mark.parametrize(("path", "maximum"), [("capabilities", 20), ("retry.on", 3)])
def test_a_list_that_is_too_long_is_one_problem(api: Api, path: str, maximum: int) -> None:
    name, _, inner = path.partition(".")
    entries = [1] * 100_000
    error = refused(api, {**VALID, name: {inner: entries} if inner else entries})
    assert error["fields"] == {path: [f"Ensure this field has no more than {maximum} elements."]}


def test_a_job_that_no_shard_could_ever_run(api: Api) -> None:
    error = refused(api, changed("capabilities", ["git", "playwright"]))
    assert error["code"] == "no_eligible_shard"
    assert "playwright" in error["fields"]["capabilities"][0]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/jobs?status=done", "status"),
        ("/jobs?limit=0x1", "limit"),
        ("/jobs?limit=201", "limit"),
        ("/jobs?limit=-1", "limit"),
        ("/jobs?limit=0", "limit"),
        ("/jobs?limit=", "limit"),
        ("/jobs?limit=5&limit=6", "limit"),
        ("/jobs?status=", "status"),
        ("/jobs?status=queued&status=running", "status"),
        ("/jobs?state=queued", "state"),
        ("/jobs?format=xml", "format"),
        ("/jobs/{job}?verbose=1", "verbose"),
        ("/secrets?page=2", "page"),
        ("/jobs?cursor=cD1hYmM=", "cursor"),
        ("/jobs?cursor=", "cursor"),
        ("/jobs?cursor=x", "cursor"),
        ("/jobs?cursor=AA==", "cursor"),
        ("/jobs?cursor=%00", "cursor"),
        ("/jobs?cursor=a", "cursor"),
        ("/jobs?cursor=a-1", "cursor"),
        ("/jobs?cursor=a\u0661", "cursor"),
        ("/jobs?cursor=a1%0A", "cursor"),
        ("/jobs?cursor=b1234567890123456789", "cursor"),
        ("/jobs/{job}/events?after=-1", "after"),
        ("/jobs/{job}/events?after=" + "9" * 5000, "after"),
        ("/jobs/{job}/events?after=\u0661", "after"),
        ("/jobs/{job}/events?limit=1001", "limit"),
        ("/jobs/{job}/events?limit=0", "limit"),
        ("/jobs/{job}/events?from=3", "from"),
        ("/jobs/{job}/stream?after=x", "after"),
    ],
    ids=lambda text: text[:34],
)
def test_query_parameters(api: Api, path: str, field: str) -> None:
    job = api.post("/jobs", VALID).json()["id"]
    response = api.get(path.replace("{job}", job))
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == [field]


@pytest.mark.parametrize("value", ["x", "-1", "9" * 5000])
def test_a_last_event_id_that_is_none(api: Api, value: str) -> None:
    job = api.post("/jobs", VALID).json()["id"]
    response = api.get(f"/jobs/{job}/stream", **{"Last-Event-ID": value})
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == ["Last-Event-ID"]


def test_a_cursor_that_is_none(api: Api) -> None:
    assert api.get("/jobs?cursor=%FF").status_code == 400


def test_thousands_of_unknown_parameters_cost_one_small_error(api: Api) -> None:
    response = api.get("/jobs?" + "&".join(f"{'x' * 100}{number}=1" for number in range(900)))
    assert response.status_code == 400
    assert len(response.content) < 5000


@pytest.mark.parametrize("path", ["/jobs?dry_run=1", "/jobs/estimate?x=1"])
def test_unknown_parameters_of_a_post_are_refused(api: Api, path: str) -> None:
    body = VALID if path.startswith("/jobs?") else {"capabilities": ["git"]}
    response = api.post(path, body)
    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_request")
    assert Job.objects.count() == 0


def test_options_are_not_the_librarys_description(api: Api) -> None:
    response = api.http.options("/api/v1/jobs", headers=api.headers)
    assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("job_id", ["job_x", "%00", "job%00", "..", "%F0%28", "x" * 500, "'; DROP TABLE jobs_job; --"])
@pytest.mark.parametrize("action", ["", "/events", "/stream"])
def test_ids_that_are_none(api: Api, job_id: str, action: str) -> None:
    assert api.get(f"/jobs/{job_id}{action}").status_code == 404


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_ids_that_are_none_when_writing(api: Api, action: str) -> None:
    assert api.post(f"/jobs/job%00/{action}").status_code == 404


@pytest.mark.parametrize("length", [0, 201])
def test_an_idempotency_key_of_impossible_length(api: Api, length: int) -> None:
    response = api.post("/jobs", VALID, **{"Idempotency-Key": "k" * length})
    assert response.status_code == 400
    assert list(error_of(response)["fields"]) == ["Idempotency-Key"]
