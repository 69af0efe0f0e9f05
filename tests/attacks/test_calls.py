"""Attacks by callers who make more calls than their share, guess keys, or do not read their responses."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from jobs.models import Job
from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import make_shard, make_tenant, running_job
from tests.fixtures.http_process import WEB, Answer, HttpProcess, http_process, wait_until

PER_KEY, PER_ADDRESS = 40, 60
# Fewer than the clients that do not read, so that each of them would take one.
CONNECTIONS, LAZY = 16, 30
LIMITS = {
    "CALLS_PER_MINUTE_PER_KEY": str(PER_KEY),
    "CALLS_PER_MINUTE_PER_ADDRESS": str(PER_ADDRESS),
    "CONCURRENT_CALLS": "8",
    "DATABASE_POOL_SIZE": str(CONNECTIONS),
    "OPEN_STREAMS_PER_KEY": "2",
}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def web(transactional_db: None) -> Iterator[HttpProcess]:
    with http_process(WEB, LIMITS) as process:
        yield process


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    return make_tenant()


def request(path: str, key: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode()
    )


def read(web: HttpProcess, key: str, path: str = "/api/v1/jobs") -> Answer:
    return web.ask(request(path, key))


def new_key(tenant: Tenant) -> str:
    return ApiKey.create(tenant, "test")[1]


def code_of(answer: Answer) -> str:
    return str(json.loads(answer.body)["error"]["code"])


def until_refused(ask: Callable[[int], Answer], at_least: int, status: int) -> Answer:
    """Make calls until one is refused, and return its answer; check the number and the status of the others."""
    # The bucket refills by some calls during a test.
    for number in range(20 * at_least):
        answer = ask(number)
        if answer.status == 429:
            assert number >= at_least
            return answer
        assert answer.status == status
    raise AssertionError("no call was refused")


def test_a_key_makes_so_many_calls_in_a_minute(web: HttpProcess, tenant: Tenant) -> None:
    key, other = new_key(tenant), new_key(make_tenant("rival"))
    refused = until_refused(lambda _: read(web, key), PER_KEY, 200)
    assert code_of(refused) == "rate_limited"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit"].startswith('"key";r=0;t=')
    assert refused.headers["ratelimit-policy"].startswith(f'"key";q={PER_KEY};w=60, ')
    assert read(web, other).status == 200


def test_guessed_keys_are_limited_by_address(web: HttpProcess, tenant: Tenant) -> None:
    until_refused(lambda number: read(web, f"mctb_guess{number}"), PER_ADDRESS, 401)
    # Shards with other keys come from the same address.
    _, shard_key = make_shard()
    beat = (
        request("/shard/v1/heartbeat", shard_key)
        .replace(b"GET", b"POST")
        .replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n")
    )
    assert web.ask(beat + b"{}").status == 400
    # A health check is not refused for them.
    assert read(web, "", "/healthz").status == 200


def log_of(tenant: Tenant) -> Job:
    job, runner = running_job(tenant, make_shard()[1])
    for _ in range(3):
        assert runner.events(*["x" * 60_000] * 3).status_code == 200
    return job


def test_clients_that_do_not_read_hold_no_database_connections(web: HttpProcess, tenant: Tenant) -> None:
    job, other = log_of(tenant), new_key(make_tenant("rival"))
    path = f"/api/v1/jobs/{job.public_id}/events?limit=1000"
    with ExitStack() as stack:
        lazy = [stack.enter_context(web.connect(receive_buffer=4096)) for _ in range(LAZY)]
        for connection in lazy:
            # The kernel takes up to 4 MB from the server, and one response has half a megabyte.
            connection.send(request(path, new_key(tenant)).replace(b"Connection: close\r\n", b"") * 12)
        for connection in lazy:
            assert connection.socket.recv(1, socket.MSG_PEEK)
        answers = [read(web, other) for _ in range(20)]
        assert all(web.has_connection(connection) for connection in lazy)
    assert [answer.status for answer in answers] == [200] * 20


def test_a_key_has_so_many_open_streams(web: HttpProcess, tenant: Tenant) -> None:
    job, key = log_of(tenant), new_key(tenant)
    stream = request(f"/api/v1/jobs/{job.public_id}/stream", key)
    with ExitStack() as stack:
        for _ in range(2):
            viewer = stack.enter_context(web.connect())
            viewer.send(stream)
            assert viewer.socket.recv(64).split()[1] == b"200"
        refused = web.ask(stream)
        assert (refused.status, code_of(refused)) == (429, "too_many_calls")
        # Streams take nothing from other calls.
        assert read(web, key).status == 200

    def is_accepted() -> bool:
        with web.connect() as viewer:
            viewer.send(stream)
            return viewer.socket.recv(64).split()[1] == b"200"

    assert wait_until(is_accepted)
