from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from myctobot.cli.api import TRIES, Api
from myctobot.cli.errors import CliError, ExitCode, Refused, Unreachable
from tests.unit.cli.server import JOB_ID, KEY, Handler, Told, api_of, job, refusal

REQUEST = {"task": {"type": "prompt", "prompt": "Fix it."}, "capabilities": ["git"]}


def failing(
    times: int, failure: httpx.Response | Exception, found: dict[str, Any]
) -> tuple[Handler, list[httpx.Request]]:
    """A server that fails so many times; and what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if len(asked) > times:
            return httpx.Response(200, json=found)
        if isinstance(failure, Exception):
            raise failure
        return failure

    return answer, asked


FAILURES = [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ReadTimeout("late"), httpx.Response(503)]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_job_is_submitted_again_with_the_same_key_until_there_is_an_answer(failure: Any) -> None:
    answer, asked = failing(3, failure, job())
    told = Told()
    with api_of(answer, told) as api:
        assert api.submit(REQUEST, "one-key")["id"] == JOB_ID
    assert [request.headers["Idempotency-Key"] for request in asked] == ["one-key"] * 4
    assert {request.content for request in asked} == {asked[0].content}
    assert json.loads(asked[0].content) == REQUEST
    assert len(told) == 3
    assert "trying again in 0.5 s" in told[0]


@pytest.mark.parametrize("failure", FAILURES)
def test_tries_are_bounded(failure: Any) -> None:
    answer, asked = failing(1000, failure, job())
    with api_of(answer) as api, pytest.raises(Unreachable, match=r"http://server\.example cannot be reached") as lost:
        api.submit(REQUEST, "one-key")
    assert len(asked) == TRIES
    assert lost.value.exit_code == ExitCode.UNREACHABLE


def test_a_retry_is_repeated_with_its_key() -> None:
    answer, asked = failing(2, httpx.ReadError("reset"), job())
    with api_of(answer) as api:
        assert api.retry(JOB_ID, {}, "one-key")["id"] == JOB_ID
    assert [request.headers["Idempotency-Key"] for request in asked] == ["one-key"] * 3


def test_a_tenant_with_too_many_waiting_jobs_hears_so_at_once() -> None:
    full = refusal(429, "too_many_waiting", "The tenant has 5 waiting jobs.", retryable=True)
    answer, asked = failing(1, full, job())
    with api_of(answer) as api, pytest.raises(Refused, match="5 waiting jobs"):
        api.submit(REQUEST, "one-key")
    assert len(asked) == 1


def call(answer: httpx.Response) -> CliError:
    with api_of(lambda request: answer) as api, pytest.raises(CliError) as refused:
        api.read(JOB_ID)
    assert KEY not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(404, "unknown_job", "There is no such job."), ["There is no such job. (unknown_job)"]),
        (
            refusal(401, "authentication_failed", "The API key is not valid."),
            ["The API key is not valid. (authentication_failed)", "The key came from: MYCTOBOT_API_KEY."],
        ),
        (
            refusal(400, "invalid_request", "cursor: No.", fields={"cursor": ["No."]}),
            ["cursor: No. (invalid_request)"],
        ),
        (
            refusal(400, "invalid_request", "task.branch: No.", fields={"task.branch": ["No."]}),
            ["task.branch: No. (invalid_request)", "  --branch: No."],
        ),
        (
            refusal(400, "invalid_request", "a: 1", fields={"capabilities[0]": ["2"], "b": ["3", "4"]}),
            ["a: 1 (invalid_request)", "  --capability: 2", "  b: 3", "  b: 4"],
        ),
        (refusal(409, "job_is_over", "It is over."), ["It is over. (job_is_over)"]),
    ],
)
def test_a_refusal_is_shown_as_the_apis_own_sentence_with_its_fields(answer: httpx.Response, said: list[str]) -> None:
    error = call(answer)
    assert isinstance(error, Refused)
    assert str(error).splitlines() == said
    assert error.exit_code == ExitCode.USAGE


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        (httpx.Response(404, text="nginx"), "status 404"),
        (httpx.Response(403, json=["no"]), "status 403"),
        (httpx.Response(200, text="<html>"), "not MyCTOBot's API"),
        (httpx.Response(200, json=[1]), "not MyCTOBot's API"),
        (httpx.Response(204), "not MyCTOBot's API"),
        (httpx.Response(301, headers={"location": "https://there.example/"}), "redirects to https://there.example/"),
    ],
)
def test_what_is_not_the_api_is_said_to_be_something_else(answer: httpx.Response, named: str) -> None:
    assert named in str(call(answer))


def test_the_key_goes_along_and_redirects_are_not_followed() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(307, headers={"location": "http://elsewhere.example/"})

    with api_of(answer) as api, pytest.raises(Refused):
        api.cancel(JOB_ID)
    assert [(request.url.host, request.headers["Authorization"]) for request in asked] == [
        ("server.example", f"Bearer {KEY}")
    ]


class Pages:
    """The API's list of so many jobs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.asked.append(query)
        first = int(query.get("cursor", "0"))
        last = min(first + int(query["limit"]), self.count)
        following = (
            f"http://elsewhere.example/jobs?cursor={last}&limit={query['limit']}&status={query.get('status', '')}"
        )
        return httpx.Response(
            200,
            json={
                "next": following if last < self.count else None,
                "previous": None,
                "results": list(range(first, last)),
            },
        )


def listed(pages: Pages, limit: int, status: str | None = None) -> dict[str, Any]:
    def answer(request: httpx.Request) -> httpx.Response:
        # An address in an answer does not lead away.
        assert request.url.host == "server.example"
        return pages(request)

    with api_of(answer) as api:
        return api.jobs(limit, status)


@pytest.mark.parametrize(
    ("count", "limit", "limits", "more"),
    [
        (5, 20, ["20"], False),
        (20, 20, ["20"], False),
        (21, 20, ["20"], True),
        (500, 450, ["200", "200", "50"], True),
        (300, 450, ["200", "200"], False),
        (0, 20, ["20"], False),
    ],
)
def test_pages_are_followed_up_to_the_limit(count: int, limit: int, limits: list[str], more: bool) -> None:
    pages = Pages(count)
    found = listed(pages, limit)
    assert found["results"] == list(range(min(count, limit)))
    assert [query["limit"] for query in pages.asked] == limits
    assert (found["next"] is not None) is more


def test_a_status_is_asked_for_on_every_page() -> None:
    pages = Pages(300)
    listed(pages, 300, "failed")
    assert [query["status"] for query in pages.asked] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("url", "proxied"),
    [
        ("http://127.0.0.1:8000", False),
        ("http://[::1]:8000", False),
        ("http://localhost:8000", False),
        ("https://server.example", True),
        ("http://192.168.1.2", True),
    ],
)
def test_a_proxy_of_the_callers_is_used_but_for_this_machine(
    url: str, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    made: list[bool] = []
    plain = httpx.Client

    def client(**options: Any) -> httpx.Client:
        made.append(options["trust_env"])
        return plain(**options)

    monkeypatch.setattr(httpx, "Client", client)
    with api_of(lambda request: httpx.Response(200), url=url) as api:
        assert isinstance(api, Api)
    assert made == [proxied]
