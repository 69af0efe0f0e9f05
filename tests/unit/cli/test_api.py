from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from myctobot.cli.api import TRIES, Api
from myctobot.cli.errors import CliError, ExitCode, RequestRefused, ServerUnreachable
from tests.unit.cli.server import JOB_ID, KEY, Handler, Notifications, api_of, job, refusal

REQUEST = {"task": {"type": "prompt", "prompt": "Fix it."}, "capabilities": ["git"]}


def failing(
    times: int, failure: httpx.Response | Exception, found: dict[str, Any]
) -> tuple[Handler, list[httpx.Request]]:
    """Return a server that fails a number of times, and the list of its requests."""
    requested: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        if len(requested) > times:
            return httpx.Response(200, json=found)
        if isinstance(failure, Exception):
            raise failure
        return failure

    return answer, requested


FAILURES = [httpx.ConnectError("refused"), httpx.ReadError("reset"), httpx.ReadTimeout("late"), httpx.Response(503)]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_job_is_submitted_again_with_the_same_key_until_there_is_an_answer(failure: Any) -> None:
    answer, requested = failing(3, failure, job())
    notifications = Notifications()
    with api_of(answer, notifications) as api:
        assert api.submit(REQUEST, "one-key")["id"] == JOB_ID
    assert [request.headers["Idempotency-Key"] for request in requested] == ["one-key"] * 4
    assert {request.content for request in requested} == {requested[0].content}
    assert json.loads(requested[0].content) == REQUEST
    assert len(notifications) == 3
    assert "trying again in 0.5 s" in notifications[0]


@pytest.mark.parametrize("failure", FAILURES)
def test_the_number_of_tries_is_limited(failure: Any) -> None:
    answer, requested = failing(1000, failure, job())
    with (
        api_of(answer) as api,
        pytest.raises(ServerUnreachable, match=r"http://server\.example cannot be reached") as lost,
    ):
        api.submit(REQUEST, "one-key")
    assert len(requested) == TRIES
    assert lost.value.exit_code == ExitCode.UNREACHABLE


def test_a_retry_is_repeated_with_its_key() -> None:
    answer, requested = failing(2, httpx.ReadError("reset"), job())
    with api_of(answer) as api:
        assert api.retry(JOB_ID, {}, "one-key")["id"] == JOB_ID
    assert [request.headers["Idempotency-Key"] for request in requested] == ["one-key"] * 3


def test_a_tenant_at_its_limit_of_waiting_jobs_is_refused_at_once() -> None:
    full = refusal(429, "queue_limit_reached", "The tenant has 5 waiting jobs.", retryable=True)
    answer, requested = failing(1, full, job())
    with api_of(answer) as api, pytest.raises(RequestRefused, match="5 waiting jobs"):
        api.submit(REQUEST, "one-key")
    assert len(requested) == 1


def call(answer: httpx.Response) -> CliError:
    with api_of(lambda request: answer) as api, pytest.raises(CliError) as refused:
        api.read(JOB_ID)
    assert KEY not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(404, "unknown_job", "There is no such job."), ["There is no such job. (unknown_job)"]),
        (
            refusal(401, "authentication_failed", "The API key is not valid."),
            ["The API key is not valid. (authentication_failed)", "The key comes from: MYCTOBOT_API_KEY."],
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
        (refusal(409, "job_finished", "It is over."), ["It is over. (job_finished)"]),
    ],
)
def test_a_refusal_is_shown_as_the_apis_own_sentence_with_its_fields(
    answer: httpx.Response, expected: list[str]
) -> None:
    error = call(answer)
    assert isinstance(error, RequestRefused)
    assert str(error).splitlines() == expected
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
def test_an_answer_of_another_server_is_named(answer: httpx.Response, named: str) -> None:
    assert named in str(call(answer))


def test_the_key_is_sent_and_redirects_are_not_followed() -> None:
    requested: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        return httpx.Response(307, headers={"location": "http://elsewhere.example/"})

    with api_of(answer) as api, pytest.raises(RequestRefused):
        api.cancel(JOB_ID)
    assert [(request.url.host, request.headers["Authorization"]) for request in requested] == [
        ("server.example", f"Bearer {KEY}")
    ]


class Pages:
    """API with a list of ``count`` jobs."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.requested: list[dict[str, str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = dict(request.url.params)
        self.requested.append(query)
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
        # The client must not follow an address in an answer to another host.
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
    assert [query["limit"] for query in pages.requested] == limits
    assert (found["next"] is not None) is more


def test_the_status_is_requested_on_every_page() -> None:
    pages = Pages(300)
    listed(pages, 300, "failed")
    assert [query["status"] for query in pages.requested] == ["failed", "failed"]


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
def test_a_proxy_is_used_except_for_this_machine(url: str, proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
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
