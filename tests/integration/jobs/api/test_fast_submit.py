"""Plain submits with a key do not go through Django, and are answered as if they did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.db import OperationalError
from django.http import HttpRequest
from django.utils import timezone

from jobs.api.response_serializers import JobSerializer, show_new
from jobs.lifecycle import submit as requests
from jobs.models.job import Job
from myctobot.asgi import application
from myctobot.tenants.authentication import find_api_key
from myctobot.tenants.models import ApiKey, Role, Tenant
from myctobot.tenants.secrets import store_secret
from myctobot.web.threads import Answer, ShortCalls
from tests.factories.control_plane import SECRETS, make_shard, make_tenant
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
# A header that nobody knows goes Django's way.
THROUGH_DJANGO = {"X-Unknown": "1"}


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
    async with served(application) as url, httpx.AsyncClient(base_url=url, trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture
def through_django(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that went Django's way."""
    seen: list[str] = []
    answer = ShortCalls.answer

    def counted(self: ShortCalls, scope: Any, body: bytes) -> Answer:
        seen.append(scope["path"])
        return answer(self, scope, body)

    monkeypatch.setattr(ShortCalls, "answer", counted)
    return seen


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def same(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """What two answers to the same request have in common."""
    body = answer.json()
    for name in ("id", "created_at"):
        body.pop(name, None)
    headers = {name: value for name, value in answer.headers.items() if name not in ("location", "content-length")}
    return answer.status_code, headers, body


@pytest.mark.parametrize("body", [BODY, FULL, {**BODY, "task": {**BODY["task"], **REPO}}])
async def test_both_ways_say_the_same(
    client: httpx.AsyncClient, key: str, through_django: list[str], body: dict[str, Any]
) -> None:
    short = await client.post(PATH, json=body, headers=bearer(key))
    assert not through_django
    long = await client.post(PATH, json=body, headers={**bearer(key), **THROUGH_DJANGO})
    assert through_django == [PATH]
    assert short.status_code == 201
    assert same(short) == same(long)
    assert short.headers["location"] == f"{PATH}/{short.json()['id']}"
    first, second = await in_thread(lambda: list(Job.objects.order_by("pk").values()))
    its_own = {"id", "public_id", "created_at", "ready_at", "queue_deadline", "request_digest"}
    assert {n: v for n, v in first.items() if n not in its_own} == {n: v for n, v in second.items() if n not in its_own}


async def test_a_key_makes_one_job_whichever_way_it_comes(
    client: httpx.AsyncClient, key: str, through_django: list[str]
) -> None:
    headers = {**bearer(key), "Idempotency-Key": "once"}
    made = await client.post(PATH, json=BODY, headers=headers)
    assert not through_django
    again = [await client.post(PATH, json=BODY, headers={**headers, **more}) for more in ({}, THROUGH_DJANGO)]
    assert [made.status_code, *(answer.status_code for answer in again)] == [201, 200, 200]
    assert {answer.json()["id"] for answer in (made, *again)} == {made.json()["id"]}
    other = await client.post(PATH, json={**BODY, "max_turns": 3}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert await in_thread(Job.objects.count) == 1


async def test_secrets_are_sealed_and_not_repeated(
    client: httpx.AsyncClient, key: str, tenant: Tenant, through_django: list[str]
) -> None:
    await in_thread(lambda: store_secret(tenant, "jira", SECRETS["jira_token"]))
    body = {
        **FULL,
        "task": {**FULL["task"], "repo_token": SECRETS["repo_token"]},
        "context": {"jira_token": {"secret": "jira"}},
        "anthropic_api_key": SECRETS["anthropic_api_key"],
    }
    made = await client.post(PATH, json=body, headers=bearer(key))
    assert (made.status_code, through_django) == (201, [])
    assert not any(value in made.text for value in SECRETS.values())
    job = await in_thread(Job.objects.get)
    assert not any(value in str(job.__dict__) for value in SECRETS.values())
    assert (job.inline_secrets, job.named_secrets) == (["anthropic_api_key", "repo_token"], {"jira_token": "jira"})


async def test_a_viewer_a_stranger_and_a_revoked_key_are_refused(
    client: httpx.AsyncClient, tenant: Tenant, key: str
) -> None:
    _, viewer = await in_thread(lambda: ApiKey.create(tenant, "v", role=Role.VIEWER))
    answers = [await client.post(PATH, json=BODY, headers=bearer(text)) for text in (viewer, "mctb_nobody", "-")]
    assert [answer.status_code for answer in answers] == [403, 401, 401]
    assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 201
    await in_thread(lambda: ApiKey.objects.filter(name="k").update(revoked_at=timezone.now()))
    assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 401
    assert await in_thread(Job.objects.count) == 1


ENDS: dict[str, tuple[int, Callable[[], object]]] = {
    "revoked": (401, lambda: ApiKey.objects.update(revoked_at=timezone.now())),
    "expired": (401, lambda: ApiKey.objects.update(expires_at=timezone.now())),
    "removed": (401, lambda: ApiKey.objects.all().delete()),
    "of a tenant that is switched off": (401, lambda: Tenant.objects.update(is_active=False)),
    "for reading alone from now on": (403, lambda: ApiKey.objects.update(role=Role.VIEWER)),
    "of another tenant": (201, lambda: ApiKey.objects.update(tenant=make_tenant("other"))),
}


@pytest.mark.parametrize("end", ENDS)
async def test_a_key_that_is_remembered_ends_at_once(client: httpx.AsyncClient, key: str, end: str) -> None:
    status, change = ENDS[end]
    for _ in range(2):
        assert (await client.post(PATH, json=BODY, headers=bearer(key))).status_code == 201
    await in_thread(change)
    after = [await client.post(PATH, json=BODY, headers=bearer(key)) for _ in range(2)]
    assert [answer.status_code for answer in after] == [status] * 2
    slugs = await in_thread(lambda: list(Job.objects.order_by("pk").values_list("tenant__slug", flat=True)))
    assert slugs == ["acme"] * 2 + (["other"] * 2 if status == 201 else [])


async def test_who_calls_often_is_looked_up_once(
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
    "nobody can": {"json": {**BODY, "capabilities": ["quantum"]}},
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
async def test_what_is_wrong_is_refused_as_django_refuses_it(client: httpx.AsyncClient, key: str, what: str) -> None:
    unusual = UNUSUAL[what]
    content = {name: unusual[name] for name in ("json", "content") if name in unusual} or {"json": BODY}
    headers = {"Content-Type": "application/json", **bearer(key), **unusual.get("headers", {})}
    short = await client.post(PATH, headers=headers, **content)
    long = await client.post(PATH, headers={**headers, **THROUGH_DJANGO}, **content)
    assert short.status_code == long.status_code >= 400
    assert unusual.get("says", "") in short.text
    assert short.content == long.content
    assert dict(short.headers) == dict(long.headers)
    assert not await in_thread(Job.objects.exists)


async def test_a_header_twice_and_a_cookie_go_djangos_way(
    client: httpx.AsyncClient, key: str, through_django: list[str]
) -> None:
    twice = [("Authorization", f"Bearer {key}"), ("Authorization", "Bearer mctb_other")]
    answers = [
        await client.post(PATH, json=BODY, headers=twice),
        await client.post(PATH, json=BODY, headers={**bearer(key), "Cookie": "sessionid=x"}),
        await client.post(f"{PATH}?x=1", json=BODY, headers=bearer(key)),
    ]
    assert through_django == [PATH] * 3
    assert [answer.status_code for answer in answers] == [401, 201, 201]


async def test_what_breaks_after_a_job_was_stored_makes_no_second_one(
    client: httpx.AsyncClient, key: str, through_django: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(job: Job) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("jobs.api.fast_submit.show_new", broken)
    answer = await client.post(PATH, json=BODY, headers=bearer(key))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert not through_django
    assert await in_thread(Job.objects.count) == 1


@pytest.mark.parametrize(("headers", "status"), [({"Idempotency-Key": "once"}, 201), ({}, 500)])
async def test_a_database_that_restarts_costs_no_job_and_makes_no_second_one(
    client: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], status: int
) -> None:
    gone = [OperationalError("the connection is closed")]
    submit = requests.submit

    def restarting(*values: Any) -> Any:
        if gone:
            raise gone.pop()
        return submit(*values)

    monkeypatch.setattr(requests, "submit", restarting)
    answer = await client.post(PATH, json=BODY, headers={**bearer(key), **headers})
    assert answer.status_code == status
    assert status == 201 or answer.json()["error"]["retryable"]
    assert await in_thread(Job.objects.count) == (status == 201)


async def test_what_breaks_before_a_caller_is_known_is_an_answer_too(
    client: httpx.AsyncClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(text: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("myctobot.tenants.authentication.find_api_key", broken)
    answer = await client.post(PATH, json=BODY, headers=bearer(key))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")


def test_a_new_job_is_shown_as_any_other(tenant: Tenant) -> None:
    make_shard()
    old = Job.objects.create(tenant=tenant, task=BODY["task"], capabilities=["git"], timeout_s=10, max_turns=1)
    later = timezone.now() + timedelta(days=1)
    for facts in ({}, {"retry_of": old}, {"not_before": later, "concurrency_key": "k", "callback_url": "https://a.b/"}):
        job = Job(
            tenant=tenant, task=BODY["task"], capabilities=["git"], timeout_s=10, max_turns=1,
            created_at=timezone.now(), **facts,
        )  # fmt: skip
        job.save()
        shown = dict(JobSerializer(Job.objects.get(pk=job.pk), context={"request": HttpRequest()}).data)
        new = show_new(job)
        assert list(new) == list(shown)
        for name in ("waiting", "retry", "concurrency"):
            assert dict(new.pop(name) or {}).keys() == dict(shown.pop(name) or {}).keys()
        assert new == shown
