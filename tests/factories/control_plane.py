"""Tenants, shards and jobs in the real database, and clients of both APIs, for tests."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Protocol, cast

from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client

from jobs.dispatch.round import dispatch_round
from jobs.lifecycle.job_request import JobRequest
from jobs.lifecycle.submit import submit
from jobs.models import Attempt, Job
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import ApiKey, Member, Role, Tenant
from myctobot.tenants.secret_bindings import SecretBinding, SecretPurpose
from shards.models import Pool, Shard, ShardState
from tests.fixtures.api_document import check_answer

REPO_TOKEN = "ghp_canary-repo-token-1234567890"
PROVIDER_KEY = "sk-ant-canary-provider-key-1234567890"
JIRA_TOKEN = "jira-canary-token-1234567890"
CANARIES = (REPO_TOKEN, PROVIDER_KEY, JIRA_TOKEN)
SECRETS: dict[str, Any] = {
    "repo_token": REPO_TOKEN,
    "anthropic_api_key": PROVIDER_KEY,
    "jira_token": JIRA_TOKEN,
}


def make_tenant(slug: str = "acme") -> Tenant:
    return Tenant.objects.create(slug=slug, name=slug.title())


def make_member(tenant: Tenant, name: str, role: str = Role.MEMBER) -> User:
    user = User.objects.create_user(name)
    Member.objects.create(tenant=tenant, user=user, role=role)
    return user


def make_staff(name: str, *permissions: str) -> User:
    """Create a staff user with exactly these permissions, such as ``shards.change_shard``."""
    user = User.objects.create_user(name, is_staff=True)
    for permission in permissions:
        app, _, codename = permission.partition(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def make_operator(name: str = "olga") -> User:
    """Create an operator with all permissions."""
    return User.objects.create_superuser(name)


def make_shard(
    name: str = "one",
    *capabilities: str,
    pool: str | None = None,
    slots: int = 2,
    state: ShardState = ShardState.READY,
    heard: bool = True,
) -> tuple[Shard, str]:
    """Create a healthy shard, and return it with its key."""
    shard = Shard(
        name=name,
        capabilities=list(capabilities or ("git", "filesystem")),
        pool=Pool.objects.get_or_create(name=pool)[0] if pool else None,
        max_concurrent_jobs=slots,
        state=state,
    )
    shard.save()
    key = shard.issue_key()
    if heard:
        Shard.objects.filter(pk=shard.pk).update(last_heartbeat_at=Now())
    shard.refresh_from_db()
    return shard, key


def make_job(tenant: Tenant, *capabilities: str, role: str = Role.MEMBER, **changes: Any) -> Job:
    """Submit a job as a member of the tenant; one that names stored secrets is submitted with an API key."""
    facts: dict[str, Any] = {
        "task": {"type": "prompt", "prompt": "Fix it.", "repo_url": "https://example.com/user/repo.git"},
        "capabilities": sorted(capabilities or ("git",)),
        "priority": 20,
        "timeout_s": 600,
        "max_turns": 5,
        **changes,
    }
    request = JobRequest(**facts)
    # A claim checks the rights of the key, so such a job needs one.
    names_secrets = any(isinstance(source, dict) for source in request.secrets.values())
    key = ApiKey.create(tenant, "factory", role=role)[0] if names_secrets else None
    return submit(Caller(tenant, role, api_key=key), request)[0]


def analyze_many_jobs(tenant: Tenant) -> None:
    """Give a tenant many waiting jobs, and let PostgreSQL analyze them.

    A test of a plan needs this. In an empty table all indexes cost the same, and what PostgreSQL last knew about the
    table depends on earlier tests.
    """
    Job.objects.bulk_create(
        Job(tenant=tenant, task={}, capabilities=["git"], timeout_s=60, max_turns=5) for _ in range(1000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE jobs_job")


def bound_to_repository(*hosts: str, min_role: str = Role.MEMBER) -> SecretBinding:
    """Return the binding of a secret for repositories, by default for those of ``make_job``."""
    return SecretBinding(SecretPurpose.REPOSITORY, hosts or ("example.com",), min_role)


def bound_to(purpose: SecretPurpose) -> SecretBinding:
    """Return the binding of a secret that members use for another purpose than repositories."""
    return SecretBinding(purpose, min_role=Role.MEMBER)


def fresh(job: Job) -> Job:
    return Job.objects.get(pk=job.pk)


def attempts_of(job: Job) -> list[Attempt]:
    return list(job.attempts.order_by("number"))


def age(attempt: Attempt, field: str, seconds: float) -> None:
    """Move a time of an attempt into the past, relative to the clock of the database."""
    with connection.cursor() as cursor:
        name = connection.ops.quote_name(field)
        cursor.execute(
            f"UPDATE jobs_attempt SET {name} = now() - make_interval(secs => %s) WHERE id = %s",  # noqa: S608  # the name is quoted
            [seconds, attempt.pk],
        )


def age_job(job: Job, days: float) -> None:
    """Move the end of a job into the past."""
    Job.objects.filter(pk=job.pk).update(finished_at=Now() - timedelta(days=days))


def whole_database() -> str:
    """Return every row of every table as text."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        parts: list[str] = []
        for (table,) in cursor.fetchall():
            cursor.execute(f"SELECT t::text FROM {connection.ops.quote_name(table)} t")  # noqa: S608  # the name is quoted
            parts += [f"{table}: {row}" for (row,) in cursor.fetchall()]
    return "\n".join(parts)


class Answer(Protocol):
    """Response of either API, as far as tests read it."""

    status_code: int
    content: bytes
    headers: Any

    def json(self) -> Any: ...


class JsonClient:
    """Client that sends JSON with a bearer key."""

    prefix = ""

    def __init__(self, key: str | None = None, **headers: str) -> None:
        self.http = Client(raise_request_exception=False)
        self.headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **headers}

    def get(self, path: str, **headers: str) -> Answer:
        return cast(Answer, self.http.get(self.prefix + path, headers={**self.headers, **headers}))

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.send("post", path, body, **headers)

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
        sent = {**self.headers, **headers}
        call = self.http.generic(method.upper(), self.prefix + path, data, "application/json", headers=sent)
        return cast(Answer, call)


class Api(JsonClient):
    """Client of the API with the key of a tenant. It checks each answer against the API's document."""

    prefix = "/api/v1"

    def get(self, path: str, **headers: str) -> Answer:
        answer = super().get(path, **headers)
        check_answer("GET", (self.prefix + path).partition("?")[0], answer)
        return answer

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        answer = super().send(method, path, body, **headers)
        check_answer(method.upper(), (self.prefix + path).partition("?")[0], answer)
        return answer

    @classmethod
    def of(cls, tenant: Tenant, role: str = Role.MEMBER, **fields: Any) -> Api:
        return cls(ApiKey.create(tenant, "test", role=role, **fields)[1])

    @classmethod
    def session(cls, user: User) -> Api:
        """Return a client with a session and without the CSRF check, which has its own tests."""
        api = cls()
        api.http.force_login(user)
        return api


class Runner(JsonClient):
    """Runner of one attempt, as the shard API sees it."""

    prefix = "/shard/v1"

    def __init__(self, key: str, job: Job, attempt: int = 1, token: str = "t" * 40) -> None:
        super().__init__(key)
        self.job, self.attempt, self.token, self.seq = job, attempt, token, 1

    def call(self, verb: str, body: dict[str, Any], **headers: str) -> Answer:
        return self.post(f"/jobs/{self.job.public_id}/{verb}", body, **{CLAIM_HEADER: self.token, **headers})

    def claim(self) -> Answer:
        return self.call("claim", {"attempt": self.attempt, "claim_token": self.token})

    def events(self, *data: Any, first: int | None = None, **changes: Any) -> Answer:
        """Post log lines, which follow the earlier ones unless ``first`` is given."""
        start = first if first is not None else self.seq
        answer = self.call(
            "events",
            {
                "attempt": self.attempt,
                "first_seq": start,
                "events": [event(start + index, item) for index, item in enumerate(data)],
                **changes,
            },
        )
        if answer.status_code == 200:
            self.seq = answer.json()["next_seq"]
        return answer

    def finish(self, outcome: str = "completed", **changes: Any) -> Answer:
        body = {"attempt": self.attempt, "outcome": outcome, "final_seq": self.seq - 1, "result": {}, **changes}
        return self.call("finish", body)


def event(seq: int, data: Any = "line", kind: str = "log.line") -> dict[str, Any]:
    shape = data if isinstance(data, dict) else {"source": "agent", "text": data}
    return {"seq": seq, "at": "2030-01-01T00:00:00+00:00", "kind": kind, "data": shape}


def running_job(tenant: Tenant, key: str, **changes: Any) -> tuple[Job, Runner]:
    """Submit a job, dispatch it and claim it for the shard with this key."""
    job = make_job(tenant, **changes)
    dispatch_round()
    runner = Runner(key, job, number_of(job))
    assert runner.claim().status_code == 200
    return fresh(job), runner


def end_pause(job: Job) -> None:
    """End the pause before the next attempt of a job."""
    Job.objects.filter(pk=job.pk).update(ready_at=Now())


def number_of(job: Job) -> int:
    return fresh(job).attempt_number


def error_of(response: Answer) -> dict[str, Any]:
    """Return the error object of an answer, and check its form."""
    body: dict[str, Any] = json.loads(response.content)
    assert set(body) == {"error"}, body
    assert {"code", "message", "retryable"} <= set(body["error"])
    error: dict[str, Any] = body["error"]
    return error
