"""Calls of real processes right after a restart of Redis, whose pools are full of connections that it has closed."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

import httpx
import pytest
import redis
from django.conf import settings
from django.test import Client

from myctobot.contract.runner import CLAIM_HEADER
from myctobot.stack.redis import EmbeddedRedis
from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import event, make_operator, make_shard, make_tenant, running_job
from tests.factories.operations import REPORT
from tests.factories.ports import fixed_ports
from tests.fixtures.http_process import GATEWAY, WEB, http_process, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

SHARDS: Final = "myctobot.asgi_shards:application"
PARALLEL: Final = 8
JOB: Final = {"task": {"type": "prompt", "prompt": "Say it."}, "capabilities": ["git"]}
MODEL_CALL: Final = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
SETTLED_S: Final = 1.0
CSRF: Final = "c" * 32
# What the processes log when Redis refused them something.
PROBLEMS: Final = re.compile(r"unreachable|unavailable|notifications_dropped|not_subscribed|no_channel|not_receiving")


class Broker:
    """Redis that can be restarted on its port.

    Args:
        folder: of its data.
    """

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedRedis(folder, port=fixed_ports(1)[0])
        self.url = self._server.start()

    def connections(self) -> int:
        """Return the number of connections of others."""
        with redis.Redis.from_url(self.url) as client:
            return len(client.client_list()) - 1

    def waiting(self) -> int:
        """Return the number of messages to the control worker."""
        with redis.Redis.from_url(self.url) as client:
            return int(str(client.llen("control")))

    def restart(self) -> None:
        """Restart the server and empty it."""
        self._server.stop()
        assert self._server.start() == self.url
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()

    def stop(self) -> None:
        self._server.stop()


class Site:
    """Web, the shard API and the gateway on one broker, and callers of all of them."""

    def __init__(self, stack: ExitStack, folder: Path, broker: Broker) -> None:
        self.folder, self.broker = folder, broker
        limits = {"CALLS_PER_MINUTE_PER_KEY": "100000", "CALLS_PER_MINUTE_PER_TENANT": "100000"}
        environ = {"REDIS_URL": broker.url, "CALLS_PER_MINUTE_PER_ADDRESS": "100000", **limits}
        names = {"web": WEB, "shards": SHARDS, "gateway": GATEWAY}
        found = {
            name: stack.enter_context(http_process(application, environ, log=folder / f"{name}.log"))
            for name, application in names.items()
        }
        self.urls = {name: f"http://127.0.0.1:{process.port}" for name, process in found.items()}
        self.tenant: Tenant = make_tenant()
        self.key = ApiKey.create(self.tenant, "test")[1]
        _, self.shard_key = make_shard()
        self.job, self.runner = running_job(self.tenant, self.shard_key)
        browser = Client()
        browser.force_login(make_operator())
        self.session = browser.cookies[settings.SESSION_COOKIE_NAME].value
        self.client = stack.enter_context(
            httpx.Client(timeout=30, trust_env=False, limits=httpx.Limits(max_connections=None))
        )
        self._web, self._addresses = found["web"], itertools.count()

    def post_event(self) -> None:
        """Report one more line of the running job to the process of the shard API."""
        body = {"attempt": 1, "first_seq": self.runner.seq, "events": [event(self.runner.seq)]}
        headers = {"Authorization": f"Bearer {self.shard_key}", CLAIM_HEADER: self.runner.token}
        url = f"{self.urls['shards']}/shard/v1/jobs/{self.job.public_id}/events"
        answer = self.client.post(url, json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        self.runner.seq = answer.json()["next_seq"]

    def log_in(self) -> int:
        """Try a wrong password from an address of its own, because each has few tries."""
        number = next(self._addresses)
        form = f"csrfmiddlewaretoken={CSRF}&username=u{number}&password=wrong"
        head = f"POST /login/ HTTP/1.1\r\nHost: localhost\r\nCookie: csrftoken={CSRF}\r\nConnection: close\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        return self._web.ask(f"{head}{form}".encode(), source=f"127.0.{1 + number // 200}.{1 + number % 200}").status

    def calls(self) -> dict[str, Callable[[], int]]:
        """Return calls of all endpoints that use Redis, directly or by a message to a worker."""
        web, shards, gateway = (self.urls[name] for name in ("web", "shards", "gateway"))
        key, shard = {"Authorization": f"Bearer {self.key}"}, {"Authorization": f"Bearer {self.shard_key}"}
        page = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={self.session}"}
        job = f"{web}/api/v1/jobs/{self.job.public_id}"

        def send(method: str, url: str, headers: dict[str, str], body: object = None) -> Callable[[], int]:
            return lambda: self.client.request(method, url, headers=headers, json=body).status_code

        return {
            "submit": send("POST", f"{web}/api/v1/jobs", key, JOB),
            "cancel": send("POST", f"{job}/cancel", key, {}),
            "queues": send("GET", f"{web}/api/v1/queues", page),
            "metrics": send("GET", f"{web}/metrics", page),
            "login": self.log_in,
            "heartbeat": send("POST", f"{shards}/shard/v1/heartbeat", shard, REPORT),
            "heartbeat of web": send("POST", f"{web}/shard/v1/heartbeat", shard, REPORT),
            "claim": send("POST", f"{shards}/shard/v1/jobs/job_x/claim", shard, {"attempt": 1}),
            "model": send("POST", f"{gateway}/v1/messages", {"x-api-key": "unknown"}, MODEL_CALL),
        }

    def log_of_shard(self) -> httpx.Response:
        """Ask for the log of a shard, whose worker does not run."""
        headers = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={self.session}"}
        return self.client.get(f"{self.urls['web']}/api/v1/shards/one/logs", headers=headers)

    def follow(self) -> tuple[threading.Thread, list[str]]:
        """Read the stream of the running job, and return the thread that reads it and the lines."""
        url = f"{self.urls['web']}/api/v1/jobs/{self.job.public_id}/stream"
        lines: list[str] = []

        def read() -> None:
            headers = {"Authorization": f"Bearer {self.key}"}
            with suppress(httpx.TransportError), self.client.stream("GET", url, headers=headers) as response:
                lines.extend(response.iter_lines())

        # A test that fails does not end the job, and must not wait for the end of its stream.
        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread, lines

    def problems(self) -> list[str]:
        """Return the lines of the logs about Redis."""
        lines = [line for path in self.folder.glob("*.log") for line in path.read_text(errors="replace").splitlines()]
        return [line for line in lines if PROBLEMS.search(line)]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path / "redis")
    yield found
    found.stop()


@pytest.fixture
def site(transactional_db: None, tmp_path: Path, broker: Broker) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, tmp_path, broker)


def many(calls: dict[str, Callable[[], int]]) -> dict[str, set[int]]:
    """Send each call from many threads at once, and return its statuses."""
    with ThreadPoolExecutor(PARALLEL * len(calls)) as threads:
        answers = {name: [threads.submit(call) for _ in range(PARALLEL)] for name, call in calls.items()}
        return {name: {answer.result() for answer in found} for name, found in answers.items()}


def test_a_restart_is_noticed_by_no_caller(site: Site) -> None:
    calls, broker = site.calls(), site.broker
    stream, lines = site.follow()
    usual = many(calls)
    assert max(max(statuses) for statuses in usual.values()) < 500, usual
    for _ in range(2):
        assert broker.connections() > 4
        # A message of a finished call may be on its way for a moment. Only the idle connections are of interest.
        time.sleep(SETTLED_S)
        broker.restart()
        site.post_event()
        assert many(calls) == usual
        # The first submit after the restart has asked the control worker for a round.
        assert broker.waiting() > 0
        assert wait_until(lambda: f"id: {site.runner.seq - 1}" in lines)
        assert site.problems() == []
    time.sleep(SETTLED_S)
    broker.restart()
    assert "did not answer within" in site.log_of_shard().json()["error"]["message"]
    assert site.runner.finish("cancelled").status_code == 200
    stream.join(30)
    ids = [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]
    # The end has an id, too.
    assert ids == list(range(1, site.runner.seq + 1))
    assert site.problems() == []
