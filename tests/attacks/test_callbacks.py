"""Tenants try to delay the callbacks of others with endpoints that never answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from jobs.callbacks import delivery
from jobs.callbacks.delivery import deliver_due
from jobs.callbacks.due import DueReader
from myctobot.lib import http_client
from tests.factories.callbacks import make_callbacks
from tests.factories.control_plane import make_tenant
from tests.fixtures.endpoint import Endpoint, endpoint

# Deliveries use threads with database connections of their own.
pytestmark = pytest.mark.django_db(transaction=True)

# Longer than a busy machine needs, and much shorter than the attacks delayed callbacks.
PATIENCE_S = 60
HOUR_S = 3600


@pytest.fixture
def hook(tmp_path: Path, settings: Any) -> Iterator[Endpoint]:
    """Endpoint that answers at once."""
    with endpoint(tmp_path) as found:
        settings.CALLBACK_PRIVATE_HOSTS = ["localhost", "127.0.0.1"]
        settings.CALLBACK_CA_FILE = str(found.certificate)
        delivery._outgoing.cache_clear()
        yield found
    delivery._outgoing.cache_clear()


class SilentEndpoint:
    """Endpoint that accepts connections and never answers, until it is closed."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=200)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()
        self.url = f"https://localhost:{self._socket.getsockname()[1]}/"

    @property
    def connections(self) -> int:
        return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                self._open.append(self._socket.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        if self._socket.fileno() < 0:
            return
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        for each in (self._socket, *self._open):
            each.close()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentEndpoint]:
    # No delivery to it ends on its own while a test waits, so what a test sees happened next to it.
    monkeypatch.setattr(http_client, "TIMEOUT_S", 10 * PATIENCE_S)
    found = SilentEndpoint()
    yield found
    found.close()


@contextmanager
def delivering(
    release: Callable[[], None], workers: int = 1, deliver: Callable[[], int] = deliver_due
) -> Iterator[None]:
    """Deliver in threads, as control workers do, until the block ends; then ``release`` ends what hangs."""
    ended = threading.Event()

    def work() -> None:
        try:
            while not ended.is_set():
                deliver()
                ended.wait(0.05)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        delivery.stop_delivering()
        release()
        for thread in threads:
            thread.join(PATIENCE_S)
        delivery._stopping.clear()


def eventually(is_true: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_true()


def test_three_thousand_dead_callbacks_of_a_tenant_do_not_delay_another(hook: Endpoint, silent: SilentEndpoint) -> None:
    make_callbacks(make_tenant("attacker"), [silent.url] * 3000, overdue_s=HOUR_S)
    make_callbacks(make_tenant("victim"), [hook.url])
    with delivering(silent.close):
        assert eventually(lambda: len(hook.received) == 1)


def test_nor_do_dead_callbacks_to_thousands_of_hosts(hook: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    released, real = threading.Event(), socket.getaddrinfo

    def resolve(host: str, *args: Any, **kwargs: Any) -> Any:
        if host.endswith(".invalid"):
            released.wait(PATIENCE_S)
            raise socket.gaierror("no answer")
        return real(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    hosts = [f"https://h{number}.invalid/" for number in range(3000)]
    make_callbacks(make_tenant("attacker"), hosts, overdue_s=HOUR_S)
    make_callbacks(make_tenant("victim"), [hook.url] * 20)
    with delivering(released.set):
        assert eventually(lambda: len(hook.received) == 20)


def test_a_dead_endpoint_does_not_delay_the_same_tenants_healthy_ones(hook: Endpoint, silent: SilentEndpoint) -> None:
    tenant = make_tenant()
    make_callbacks(tenant, [silent.url] * 500, overdue_s=HOUR_S)
    make_callbacks(tenant, [hook.url] * 20)
    with delivering(silent.close):
        assert eventually(lambda: len(hook.received) == 20)


def test_a_delivery_that_hangs_does_not_hold_later_ones(hook: Endpoint, silent: SilentEndpoint) -> None:
    make_callbacks(make_tenant("attacker"), [silent.url])
    victim = make_tenant("victim")
    with delivering(silent.close):
        assert eventually(lambda: silent.connections > 0)
        for number in range(1, 4):
            make_callbacks(victim, [hook.url])
            assert eventually(lambda number=number: len(hook.received) == number)  # type: ignore[misc]  # bound now


def test_several_workers_send_each_callback_once(hook: Endpoint) -> None:
    def deliver() -> int:
        """Deliver without the lock that lets one process deliver, so that only the leases remain."""
        return delivery._run(delivery._Deliverer(DueReader()))

    make_callbacks(make_tenant("one"), [hook.url] * 15)
    make_callbacks(make_tenant("two"), [hook.url] * 15)
    with delivering(lambda: None, 3, deliver):
        assert eventually(lambda: len(hook.received) >= 30)
    ids = [headers["webhook-id"] for headers, _ in hook.received]
    assert len(ids) == len(set(ids)) == 30
