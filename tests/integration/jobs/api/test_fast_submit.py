"""Plain submits with an API key bypass REST framework and get the same answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from rest_framework.request import Request

from jobs.api.views import JobList
from jobs.lifecycle import submit
from jobs.models import Job
from jobs.queue.waiting import CachedWaitExplainer
from myctobot.asgi import make_application
from myctobot.tenants.authentication import find_api_key
from myctobot.tenants.models import ApiKey, Role, Tenant
from myctobot.tenants.secret_bindings import SecretPurpose
from myctobot.tenants.secrets import store_secret
from myctobot.web.process_caches import ProcessCaches
from tests.factories.control_plane import SECRETS, bound_to, make_shard, make_tenant
from tests.factories.viewers import in_thread
from tests.integration.gateway.conftest import served

pytestmark = [pytest.mark.anyio, pytest.mark.django_db(transaction=True)]
PATH = "/api/v1/jobs"
BODY: dict[str, Any] = {"task": {"type": "prompt", "prompt": "Say it: «Grüße»."}, "capabilities": ["git"]}
REPO = {"repo_url": "https://git.example.com/a.git", "branch": "work", "base_branch": "main"}
FULL: dict[str, Any] = {
    "task": {"type": "implement_ticket", "prompt": "Do it.", "issue_key": "A-1", **REPO},
    "capabilities": ["git", "filesystem"],
    "priority": "high",
    "context": {"jira_cloud_id": "c", "additional_instructions": "Be brief."},
    "callback_url": "https://hooks.example.com/x",
    "timeout_s": 100,
    "queue_timeout_s": None,
    "no_output_timeout_s": 50,
    "concurrency": {"key": "deploy", "limit": 3},
    "retry": {"max_attempts": 4, "on": ["agent", "timeout"]},
    "max_turns": 7,
}
# REST framework answers a request with a cookie, and the answer does not depend on this one.
NOT_PLAIN = {"Cookie": "theme=dark"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tenant() -> Tenant:
    return make_tenant()


@pytest.fixture
def key(tenant: Tenant) -> str:
    return ApiKey.create(tenant, "k")[1]


@pytest.fixture
async def client(tenant: Tenant) -> AsyncIterator[httpx.AsyncClient]:
    await in_thread(make_shard)
    app = make_application(ProcessCaches())
    async with served(app) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that REST framework answered."""
    seen: list[str] = []
    initial = JobList.initial

    def counted(self: JobList, request: Request, *args: Any, **kwargs: Any) -> None:
        seen.append(request.path)
        initial(self, request, *args, **kwargs)

    monkeypatch.setattr(JobList, "initial", counted)
    return seen


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def same(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Return the parts of an answer that two equal requests share."""
    body = answer.json()
    for name in ("id", "created_at"):
        body.pop(name, None)
    changing = ("location", "content-length", "ratelimit")
    headers = {name: value for name, value in answer.headers.items() if name not in changing}
    return answer.status_code, headers, body


@pytest.mark.parametrize("body", [BODY, FULL, {**BODY, "task": {**BODY["task"], **REPO}}])
async def test_both_paths_give_the_same_answer(
    client: httpx.AsyncClient, key: str, slow: list[str], body: dict[str, Any]
) -> None:
    short = await client.post(PATH, json=body, headers=bearer(key))
    assert not slow
    long = await client.post(PATH, json=body, headers={**bearer(key), **NOT_PLAIN})
    assert slow == [PATH]
    assert short.status_code == 201
    assert same(short) == same(long)
    assert short.headers["location"] == f"{PATH}/{short.json()['id']}"
    first, second = await in_thread(lambda: list(Job.objects.order_by("pk").values()))
    its_own = {"id", "public_id", "created_at", "ready_at", "queue_deadline", "request_digest"}
    assert {n: v for n, v in first.items() if n not in its_own} == {n: v for n, v in second.items() if n not in its_own}


async def test_a_key_makes_one_job_on_both_paths(client: httpx.AsyncClient, key: str, slow: list[str]) -> None:
    headers = {**bearer(key), "Idempotency-Key": "once"}
    made = await client.post(PATH, json=BODY, headers=headers)
    assert not slow
    again = [await client.post(PATH, json=BODY, headers={**headers, **more}) for more in ({}, NOT_PLAIN)]
    assert [made.status_code, *(answer.status_code for answer in again)] == [201, 200, 200]
    assert {answer.json()["id"] for answer in (made, *again)} == {made.json()["id"]}
    other = await client.post(PATH, json={**BODY, "max_turns": 3}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert await in_thread(Job.objects.count) == 1


async def test_secrets_are_sealed_and_not_repeated(
    client: httpx.AsyncClient, key: str, tenant: Tenant, slow: list[str]
) -> None:
    await in_thread(lambda: store_secret(tenant, "jira", SECRETS["jira_token"], bound_to(SecretPurpose.TRACKER)))
    body = {
        **FULL,
        "task": {**FULL["task"], "repo_token": SECRETS["repo_token"]},
        "context": {"jira_token": {"secret": "jira"}},
        "anthropic_api_key": SECRETS["anthropic_api_key"],
    }
    made = await client.post(PATH, json=body, headers=bearer(key))
    assert (made.status_code, slow) == (201, [])
    assert not any(value in made.text for value in SECRETS.values())
    job = await in_thread(Job.objects.get)
    assert not any(value in str(job.__dict__) for value in SECRETS.values())
    assert (job.inline_secrets, job.named_secrets) == (["anthropic_api_key", "repo_token"], {"jira_token": "jira"})


async def test_a_viewer_an_unknown_key_and_a_revoked_key_are_refused(
    client: httpx.AsyncClient, tenant: Tenant, key: str
) -> None:
    _, viewer = await in_thread(lambda: ApiKey.create(tenant, "v", role=Role.VIEWER))
    answers = [await client.post(PATH, json=BODY, headers=bearer(text)) for text in (viewer, "mctb_unknown", "-")]
    assert [answer.status_code for answer in answers] == [403, 401, 401]
    assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 201
    await in_thread(lambda: ApiKey.objects.filter(name="k").update(revoked_at=timezone.now()))
    assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 401
    assert await in_thread(Job.objects.count) == 1


ENDS: dict[str, tuple[int, Callable[[], object]]] = {
    "revoked": (401, lambda: ApiKey.objects.update(revoked_at=timezone.now())),
    "expired": (401, lambda: ApiKey.objects.update(expires_at=timezone.now())),
    "removed": (401, lambda: ApiKey.objects.all().delete()),
    "of an inactive tenant": (401, lambda: Tenant.objects.update(is_active=False)),
    "read-only from now on": (403, lambda: ApiKey.objects.update(role=Role.VIEWER)),
    "of another tenant": (201, lambda: ApiKey.objects.update(tenant=make_tenant("other"))),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_cached_key_ends_at_once(client: httpx.AsyncClient, key: str, end: str) -> None:
    status, change = ENDS[end]
    for _ in range(2):
        assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 201
    await in_thread(change)
    after = [await client.post(PATH, json=BODY, headers=bearer(key)) for _ in range(2)]
    assert [answer.status_code for answer in after] == [status] * 2
    slugs = await in_thread(lambda: list(Job.objects.order_by("pk").values_list("tenant__slug", flat=True)))
    assert slugs == ["acme"] * 2 + (["other"] * 2 if status == 201 else [])


async def test_frequent_calls_look_the_key_up_once(
    client: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[str] = []

    def counted(text: str) -> ApiKey | None:
        looked_up.append(text)
        return find_api_key(text)

    monkeypatch.setattr("myctobot.tenants.authentication.find_api_key", counted)
    for _ in range(5):
        assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 201
    assert looked_up == [key]


UNUSUAL: dict[str, dict[str, Any]] = {
    "a foreign host": {"headers": {"Host": "evil.example.com"}},
    "no JSON": {"headers": {"Content-Type": "text/plain"}},
    "a form": {"headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    "wants HTML": {"headers": {"Accept": "text/html"}},
    "an empty key": {"headers": {"Idempotency-Key": ""}},
    "a long key": {"headers": {"Idempotency-Key": "k" * 201}},
    "malformed": {"content": b'{"task": '},
    "a key twice": {"content": b'{"task": {"type": "prompt", "prompt": "x"}, "capabilities": ["git"], "task": {}}'},
    "a list": {"content": b"[]"},
    "empty": {"content": b""},
    "not UTF-8": {"content": b"\xff\xfe"},
    "a lone surrogate": {"content": b'{"task": {"type": "prompt", "prompt": "\\ud800"}, "capabilities": ["git"]}'},
    "an unknown field": {"json": {**BODY, "shards": 3}},
    "no eligible shard": {"json": {**BODY, "capabilities": ["quantum"]}},
    "a secret in sight": {
        "json": {
            **BODY,
            "anthropic_api_key": "sk-ant-canary-1",
            "callback_url": "https://a.example.com/sk-ant-canary-1",
        },
        "says": "Holds the value of anthropic_api_key",
    },
    "an unknown secret": {"json": {**BODY, "anthropic_api_key": {"secret": "none"}}},
}


@pytest.mark.parametrize("what", UNUSUAL)
async def test_an_invalid_request_gets_the_same_refusal_on_both_paths(
    client: httpx.AsyncClient, key: str, what: str
) -> None:
    unusual = UNUSUAL[what]
    content = {name: unusual[name] for name in ("json", "content") if name in unusual} or {"json": BODY}
    headers = {"Content-Type": "application/json", **bearer(key), **unusual.get("headers", {})}
    short = await client.post(PATH, headers=headers, **content)
    long = await client.post(PATH, headers={**headers, **NOT_PLAIN}, **content)
    assert short.status_code == long.status_code >= 400
    assert unusual.get("says", "") in short.text
    assert short.content == long.content
    # The number of remaining calls changes with each.
    assert {**short.headers, "ratelimit": ""} == {**long.headers, "ratelimit": ""}
    assert not await in_thread(Job.objects.exists)


class Numbering:
    """Middleware that depends on the request, adds headers and refuses some requests."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        number = request.headers.get("X-Number", "")
        if number == "refused":
            return HttpResponse("no", status=418, headers={"X-Number": number})
        response = self._get_response(request)
        response.headers["X-Number"] = f"{number} {response.status_code}"
        response.set_cookie("number", number)
        return response


KINDS: dict[str, tuple[int, dict[str, Any]]] = {
    "a new job": (201, {"json": BODY}),
    "the job of an earlier call": (200, {"json": BODY, "headers": {"Idempotency-Key": "once"}}),
    "another request with the key": (409, {"json": FULL, "headers": {"Idempotency-Key": "once"}}),
    "an invalid field": (400, {"json": {**BODY, "max_turns": 0}}),
    "malformed": (400, {"content": b"{"}),
    "no eligible shard": (400, {"json": {**BODY, "capabilities": ["quantum"]}}),
    "an unknown key": (401, {"json": BODY, "headers": {"Authorization": "Bearer mctb_unknown"}}),
    "not acceptable": (406, {"json": BODY, "headers": {"Accept": "text/html"}}),
    "a foreign host": (400, {"json": BODY, "headers": {"Host": "evil.example.com"}}),
    "refused by middleware": (418, {"json": BODY, "headers": {"X-Number": "refused"}}),
}


@pytest.mark.parametrize("kind", KINDS)
async def test_new_middleware_works_for_every_kind_of_answer(settings: Any, key: str, kind: str) -> None:
    await in_thread(make_shard)
    settings.MIDDLEWARE = [f"{__name__}.Numbering", *settings.MIDDLEWARE]
    status, sent = KINDS[kind]
    headers = {"Content-Type": "application/json", **bearer(key), "X-Number": "7", **sent.get("headers", {})}
    content = {name: sent[name] for name in ("json", "content") if name in sent}
    async with (
        served(make_application(ProcessCaches())) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client,
    ):
        await client.post(PATH, json=BODY, headers={**bearer(key), "Idempotency-Key": "once"})
        fast = await client.post(PATH, headers=headers, **content)
        client.cookies.clear()
        slow = await client.post(PATH, headers={**headers, **NOT_PLAIN}, **content)
    assert fast.status_code == slow.status_code == status
    assert fast.headers["X-Number"] == ("refused" if status == 418 else f"7 {status}")
    # The number of remaining calls changes with each.
    changing = ("location", "content-length", "ratelimit")
    assert [pair for pair in fast.headers.items() if pair[0] not in changing] == [
        pair for pair in slow.headers.items() if pair[0] not in changing
    ]


async def test_an_error_inside_has_the_headers_of_the_middleware(
    client: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit, "submit", lambda *values, **more: 1 / 0)
    fast = await client.post(PATH, json=BODY, headers=bearer(key))
    slow = await client.post(PATH, json=BODY, headers={**bearer(key), **NOT_PLAIN})
    assert same(fast) == same(slow)
    assert (fast.status_code, fast.headers["X-Frame-Options"]) == (500, "DENY")


async def test_a_repeated_header_a_cookie_a_query_and_a_tenant_take_the_slow_path(
    client: httpx.AsyncClient, key: str, slow: list[str]
) -> None:
    twice = [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer mctb_other")]
    answers = [
        await client.post(PATH, json=BODY, headers=twice),
        await client.post(PATH, json=BODY, headers={**bearer(key), "Cookie": "sessionid=x"}),
        await client.post(f"{PATH}?x=1", json=BODY, headers=bearer(key)),
        await client.post(PATH, json=BODY, headers={**bearer(key), "MyCTOBot-Tenant": "other"}),
    ]
    assert slow == [PATH] * 4
    assert [answer.status_code for answer in answers] == [401, 201, 400, 403]


async def test_an_error_after_a_job_was_stored_makes_no_second_job(
    client: httpx.AsyncClient, key: str, slow: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(job: Job, waits: CachedWaitExplainer) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("jobs.api.fast_submit.serialize_new_job", broken)
    answer = await client.post(PATH, json=BODY, headers=bearer(key))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert not slow
    assert await in_thread(Job.objects.count) == 1


@pytest.mark.parametrize(("headers", "status"), [({"Idempotency-Key": "once"}, 201), ({}, 503)])
async def test_a_restarted_database_loses_no_job_and_makes_no_second_one(
    client: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    gone = [OperationalError("the connection is closed")]
    real_submit = submit.submit

    def restarting(*values: Any, **more: Any) -> Any:
        if gone:
            raise gone.pop()
        return real_submit(*values, **more)

    monkeypatch.setattr(submit, "submit", restarting)
    answer = await client.post(PATH, json=BODY, headers={**bearer(key), **headers})
    assert answer.status_code == status
    assert status == 201 or (answer.json()["error"]["retryable"], answer.headers["Retry-After"]) == (True, "5")
    assert await in_thread(Job.objects.count) == (status == 201)


async def test_an_error_before_the_caller_is_known_is_answered(
    client: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("myctobot.tenants.authentication.find_api_key", broken)
    answer = await client.post(PATH, json=BODY, headers=bearer(key))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
