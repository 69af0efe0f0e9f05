"""Configuration of docs/reverse-proxy.md in a real nginx, alone and behind a second one."""

from __future__ import annotations

import itertools
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest
from websockets.sync.client import connect
from websockets.typing import Origin

from jobs.dispatch.round import dispatch_round
from jobs.models import Job
from myctobot.gateway.requests import MAX_BODY_BYTES
from myctobot.stack.plan import CHECKOUT
from myctobot.tenants.models import ApiKey, Tenant
from tests.factories.control_plane import Runner, make_job, make_member, make_shard, make_tenant, running_job
from tests.factories.logins import PASSWORD
from tests.factories.ports import fixed_ports
from tests.fixtures.git_server import make_certificate
from tests.fixtures.http_process import GATEWAY, WEB, http_process
from tests.fixtures.nginx import nginx

PAGE: Final = CHECKOUT / "docs" / "reverse-proxy.md"
MB: Final = 1024 * 1024
# The stock settings of nginx keep a part of a stream for much longer than this.
DELAY_S: Final = 0.2
CALLS: Final = 20
SHARD_API: Final = "myctobot.asgi_shards:application"

pytestmark = [pytest.mark.needs("nginx"), pytest.mark.django_db(transaction=True)]


@dataclass(frozen=True)
class Site:
    """Addresses of web and gateway for clients, and the certificate that they trust."""

    web: str
    gateway: str
    certificate: Path

    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def client(self, base_url: str = "", source: str | None = None, **headers: str) -> httpx.Client:
        """Return a client with an address that no other one uses, because the servers limit the calls of an address."""
        transport = httpx.HTTPTransport(verify=self.trust(), local_address=source or own_address())
        return httpx.Client(base_url=base_url or self.web, headers=headers, transport=transport, timeout=30)


_NUMBERS: Final = itertools.count(256)


def own_address() -> str:
    """Return another address of this machine at each call."""
    high, low = divmod(next(_NUMBERS), 256)
    return f"127.1.{high}.{low}"


def documented() -> str:
    """Return the configuration of the page."""
    found = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def adapted(text: str, changes: Mapping[str, str]) -> str:
    """Replace parts of the configuration, each of which must occur."""
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def with_upstreams(text: str, web: int, gateway: int, shard_api: int) -> str:
    return adapted(
        text, {"127.0.0.1:8000": f"127.0.0.1:{web}", "127.0.0.1:8001": f"127.0.0.1:{gateway}",
               "127.0.0.1:8002": f"127.0.0.1:{shard_api}"}
    )  # fmt: skip


def with_tls(text: str, web: int, gateway: int, certificate: Path) -> str:
    return adapted(
        text, {"listen 443 ssl": f"listen 127.0.0.1:{web} ssl", "listen 8443 ssl": f"listen 127.0.0.1:{gateway} ssl",
               "/etc/nginx/control.pem": str(certificate), "/etc/nginx/control.key": str(certificate)}
    )  # fmt: skip


def without_tls(text: str, web: int, gateway: int) -> str:
    """Return the configuration of a proxy that another one calls without TLS, as the page describes it."""
    text = re.sub(r" *ssl_certificate.*\n", "", text)
    return adapted(
        text, {"listen 443 ssl": f"listen 127.0.0.1:{web}", "listen 8443 ssl": f"listen 127.0.0.1:{gateway}",
               "192.0.2.1": "127.0.0.1"}
    )  # fmt: skip


@pytest.fixture(scope="module", params=["alone", "behind another"])
def site(
    request: pytest.FixtureRequest, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Start the servers once for all tests, each of which calls from addresses of its own."""
    folder = tmp_path_factory.mktemp("site")
    certificate = make_certificate(folder)
    web, gateway = fixed_ports(2)
    url = f"https://127.0.0.1:{web}"
    environ = {
        "CONTROL_URL": url,
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "BEHIND_PROXY": "true",
        "CALLS_PER_MINUTE_PER_ADDRESS": str(CALLS),
    }
    with ExitStack() as stack:
        ports = [stack.enter_context(http_process(each, environ)).port for each in (WEB, GATEWAY, SHARD_API)]
        if request.param == "behind another":
            inner = fixed_ports(2)
            stack.enter_context(_proxy(folder / "inner", without_tls(with_upstreams(documented(), *ports), *inner)))
            ports = [*inner, inner[0]]
        outer = with_tls(with_upstreams(documented(), *ports), web, gateway, certificate)
        stack.enter_context(_proxy(folder / "outer", outer))
        yield Site(url, f"https://127.0.0.1:{gateway}", certificate)


@contextmanager
def _proxy(directory: Path, configuration: str) -> Iterator[None]:
    directory.mkdir()
    with nginx(directory, configuration):
        yield


def key_of(tenant: Tenant) -> str:
    return ApiKey.create(tenant, "test")[1]


def log_in(client: httpx.Client, name: str) -> None:
    """Log in as a browser would, on the page of the console."""
    page = client.get("/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert page.status_code == 200
    assert token
    form = {"csrfmiddlewaretoken": token[1], "username": name, "password": PASSWORD}
    answer = client.post("/login/", data=form, headers={"Referer": str(page.url)})
    assert (answer.status_code, answer.headers.get("location")) == (302, "/jobs/")


def delays(runner: Runner, receive: Callable[[], str]) -> list[float]:
    """Send some events one after the other, and return the seconds until each reaches a viewer."""
    found = []
    for seq in range(1, 6):
        began = time.monotonic()
        assert runner.events(f"line {seq}").status_code == 200
        while f'"line {seq}"' not in receive():
            pass
        found.append(time.monotonic() - began)
    return found


@pytest.fixture
def tenant(transactional_db: None) -> Tenant:
    return make_tenant()


@pytest.fixture
def running(tenant: Tenant) -> tuple[Job, Runner]:
    return running_job(tenant, make_shard()[1])


def test_a_browser_logs_in_and_follows_a_job(site: Site, tenant: Tenant, running: tuple[Job, Runner]) -> None:
    user = make_member(tenant, "anna")
    user.set_password(PASSWORD)
    user.save()
    job, runner = running
    with site.client() as client:
        log_in(client, "anna")
        cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
        assert client.get("/jobs/").status_code == 200
    address = f"wss{site.web.removeprefix('https')}/ws/jobs/{job.public_id}/"
    headers, origin = {"Cookie": cookie}, Origin(site.web)
    with connect(address, ssl=site.trust(), additional_headers=headers, origin=origin, proxy=None) as viewer:
        found = delays(runner, lambda: str(viewer.recv(timeout=20)))
    assert min(found) < DELAY_S


def test_a_program_follows_a_job(site: Site, tenant: Tenant, running: tuple[Job, Runner]) -> None:
    job, runner = running
    with (
        site.client(authorization=f"Bearer {key_of(tenant)}") as client,
        client.stream("GET", f"/api/v1/jobs/{job.public_id}/stream") as response,
    ):
        lines = response.iter_lines()
        found = delays(runner, lambda: next(lines))
    assert min(found) < DELAY_S


def test_links_have_the_address_of_the_proxy(site: Site, tenant: Tenant) -> None:
    make_shard()
    for _ in range(2):
        make_job(tenant)
    with site.client(authorization=f"Bearer {key_of(tenant)}") as client:
        page = client.get("/api/v1/jobs?limit=1").json()
        assert page["next"].startswith(f"{site.web}/api/v1/jobs?")
        assert client.get(page["next"]).status_code == 200


def test_shards_reach_their_api(site: Site) -> None:
    with site.client(authorization=f"Bearer {make_shard()[1]}") as client:
        answer = client.post("/shard/v1/heartbeat", json={})
    # The shard API knows the key, and refuses the report.
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("size", [32_000_000, MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
def test_the_gateway_gets_the_body_of_a_long_conversation(site: Site, tenant: Tenant, size: int) -> None:
    _, key = make_shard()
    runner = Runner(key, make_job(tenant))
    dispatch_round()
    token = runner.claim().json()["gateway"]["token"]
    with site.client(site.gateway, **{"x-api-key": token}) as client:
        answer = client.post("/v1/messages", content=b"x" * size)
    # The gateway has read the body to the end, or measured it.
    expected = (400, "invalid_request_error") if size <= MAX_BODY_BYTES else (413, "request_too_large")
    assert (answer.status_code, answer.json()["error"]["type"]) == expected
    assert answer.headers["request-id"].startswith("req_")


@pytest.mark.parametrize(("server", "path", "own"), [("web", "/api/v1/jobs", 3 * MB // 2), ("gateway", "/healthz", 1)])
def test_a_refused_body_has_the_same_shape_as_ours(site: Site, server: str, path: str, own: int) -> None:
    """Compare the proxy's own response with that of MyCTOBot to a body that the proxy lets through."""
    with site.client(getattr(site, server)) as client:
        ours, theirs = (client.post(path, content=b"x" * size) for size in (own, 34 * MB))
    assert ours.status_code == theirs.status_code == 413
    assert theirs.headers["content-type"] == "application/json"
    assert theirs.json()["error"].keys() == ours.json()["error"].keys()
    kind = "code" if server == "web" else "type"
    assert theirs.json()["error"][kind] == ours.json()["error"][kind] == "request_too_large"


def test_a_client_cannot_choose_its_address(site: Site) -> None:
    """Guess keys with another address in the header of each call; a client of another address is not affected."""
    statuses, source = [], own_address()
    for number in range(10 * CALLS):
        headers = {"authorization": "Bearer wrong", "x-forwarded-for": f"198.51.100.{number}"}
        with site.client(source=source, **headers) as client:
            statuses.append(client.get("/api/v1/jobs").status_code)
        if statuses[-1] == 429:
            break
    assert statuses == [401] * (len(statuses) - 1) + [429]
    with site.client(authorization="Bearer wrong") as client:
        assert client.get("/api/v1/jobs").status_code == 401


def test_a_client_cannot_choose_its_scheme(site: Site) -> None:
    with site.client(**{"x-forwarded-proto": "http"}) as client:
        assert client.get("/login/").status_code == 200
