"""Answers of real processes while PostgreSQL or Redis is away or read-only, and after their return."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import make_operator, make_shard, make_tenant
from tests.fixtures.database_relay import DatabaseRelay, database_relay
from tests.fixtures.http_process import GATEWAY, WEB, Answer, HttpProcess, http_process, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

SHARDS = "myctobot.asgi_shards:application"
READS = ["/api/v1/jobs", "/api/v1/jobs/job_x", "/api/v1/shards", "/jobs/", "/secrets/", "/ops/", "/admin/", "/metrics"]
JOB = {"task": {"type": "prompt", "prompt": "Say it."}, "capabilities": ["git"]}
CALL = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}


class Callers:
    """Credentials of a member, an operator, a shard and a job's gateway token."""

    def __init__(self) -> None:
        self.tenant: Tenant = make_tenant()
        self.key = ApiKey.create(self.tenant, "test")[1]
        self.shard_key = make_shard()[1]
        browser = Client()
        browser.force_login(make_operator())
        self.session = browser.cookies[settings.SESSION_COOKIE_NAME].value

    def ask(self, process: HttpProcess, method: str, path: str, body: object = None) -> Answer:
        """Send a request with the credentials that its path needs."""
        key = self.shard_key if path.startswith("/shard/") else self.key
        is_page = not path.startswith(("/api/", "/shard/", "/v1/"))
        who = f"Cookie: {settings.SESSION_COOKIE_NAME}={self.session}" if is_page else f"Authorization: Bearer {key}"
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{who}\r\nx-api-key: gw_unknown\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        return process.ask(head.encode() + data)


@pytest.fixture
def callers(transactional_db: None) -> Callers:
    return Callers()


@pytest.fixture
def relay(transactional_db: None) -> Iterator[DatabaseRelay]:
    name = str(connection.settings_dict["NAME"])
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()
    # The path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, database_relay(url, Path(folder)) as found:
        yield found


CALLS: dict[str, list[tuple[str, str, object]]] = {
    WEB: [
        *(("GET", path, None) for path in READS),
        ("POST", "/api/v1/jobs", JOB),
        ("POST", "/api/v1/jobs/job_x/cancel", {}),
        ("POST", "/shard/v1/heartbeat", {}),
        ("POST", "/shard/v1/enroll", {"token": "x", "name": "one"}),
    ],
    SHARDS: [("POST", "/shard/v1/heartbeat", {}), ("POST", "/shard/v1/jobs/job_x/claim", {})],
    GATEWAY: [("POST", "/v1/messages", CALL), ("POST", "/v1/messages/count_tokens", CALL)],
}


@pytest.mark.parametrize("application", [WEB, SHARDS, GATEWAY], ids=["web", "shards", "gateway"])
def test_while_the_database_is_away_each_endpoint_says_so_and_afterwards_none_fails(
    application: str, callers: Callers, relay: DatabaseRelay
) -> None:
    calls = CALLS[application]
    with http_process(application, {"DATABASE_URL": relay.url, "DATABASE_POOL_SIZE": "8"}) as process:
        usual = [callers.ask(process, *call).status for call in calls]
        assert max(usual) < 500, usual
        relay.stop()
        for call in calls:
            answer = callers.ask(process, *call)
            assert (answer.status, answer.headers.get("retry-after")) == (503, "5"), (call, answer)
        relay.start()
        # The pool has tried for a while. From now on, no caller may get an error.
        assert wait_until(lambda: callers.ask(process, *calls[0]).status == usual[0])
        for _ in range(5):
            assert [callers.ask(process, *call).status for call in calls] == usual


@pytest.mark.parametrize("application", [WEB, SHARDS, GATEWAY], ids=["web", "shards", "gateway"])
def test_a_restart_between_two_calls_is_noticed_by_no_caller(
    application: str, callers: Callers, relay: DatabaseRelay
) -> None:
    calls = CALLS[application]
    with http_process(application, {"DATABASE_URL": relay.url}) as process:
        usual = [callers.ask(process, *call).status for call in calls]
        for _ in range(3):
            relay.stop()
            relay.start()
            assert [callers.ask(process, *call).status for call in calls] == usual


def test_changes_in_a_read_only_database_are_refused(callers: Callers, relay: DatabaseRelay) -> None:
    name = str(settings.DATABASES["default"]["NAME"])
    parameters = {**connection.get_connection_params(), "autocommit": True}
    with http_process(WEB, {"DATABASE_URL": relay.url}) as process, psycopg.connect(**parameters) as own:
        own.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
        try:
            # A session keeps what it began with.
            relay.stop()
            relay.start()
            for call in CALLS[WEB]:
                answer = callers.ask(process, *call)
                assert answer.status < 500 or (answer.status, answer.headers["retry-after"]) == (503, "5"), call
            assert callers.ask(process, "POST", "/api/v1/jobs", JOB).status == 503
        finally:
            own.execute(f'ALTER DATABASE "{name}" RESET default_transaction_read_only')


def test_while_redis_is_away_no_endpoint_fails_in_another_way(callers: Callers) -> None:
    with http_process(WEB, {"REDIS_URL": "redis://127.0.0.1:1/0"}) as process:
        for call in CALLS[WEB]:
            answer = callers.ask(process, *call)
            assert answer.status < 500 or (answer.status, answer.headers["retry-after"]) == (503, "5"), (call, answer)
