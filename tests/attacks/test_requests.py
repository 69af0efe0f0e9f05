"""Attacks by anyone who can open a connection: huge bodies and headers, silence, and many connections."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.fixtures.http_process import GATEWAY, WEB, HttpProcess, RawConnection, http_process, wait_until

MB = 1024 * 1024
DECLARED = 1_500_000_000
# An attack sends at most this much. Less than a third of it may stay in memory.
SENT = 64 * MB
GROWTH = 20 * MB
TIMEOUT_S = 1
PER_ADDRESS, TOTAL = 40, 60
OTHERS = ("127.0.0.2", "127.0.0.3")
LIMITS = {
    "REQUEST_HEADER_TIMEOUT_S": str(TIMEOUT_S),
    "REQUEST_BODY_TIMEOUT_S": str(TIMEOUT_S),
    "RESPONSE_STALL_TIMEOUT_S": str(TIMEOUT_S),
    "MAX_CONNECTIONS": str(TOTAL),
    "MAX_CONNECTIONS_PER_ADDRESS": str(PER_ADDRESS),
}
LARGE_PAGE = "/static/drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js"


@pytest.fixture(scope="module")
def web(django_db_setup: None) -> Iterator[HttpProcess]:
    with http_process(WEB, LIMITS) as process:
        yield process


@pytest.fixture(scope="module")
def gateway() -> Iterator[HttpProcess]:
    with http_process(GATEWAY, LIMITS) as process:
        yield process


@pytest.fixture(params=["web", "gateway"])
def server(request: pytest.FixtureRequest) -> HttpProcess:
    found: HttpProcess = request.getfixturevalue(request.param)
    return found


def head(method: str, path: str, *lines: str) -> bytes:
    """Return the headers of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]).encode()


def declared(method: str, path: str, length: int) -> bytes:
    return head(method, path, f"Content-Length: {length}")


CHUNKED = "Transfer-Encoding: chunked"
CHUNK = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
OVERSIZED = [
    *((method, path) for path in ("/login/", "/healthz", "/no/such/page") for method in ("POST", "PUT")),
    ("POST", "/jobs/new/"),
    ("POST", "/admin/login/"),
    ("POST", "/api/v1/jobs"),
    ("PATCH", "/api/v1/shards/one"),
    ("POST", "/shard/v1/heartbeat"),
    ("POST", "/shard/v1/jobs/one/events"),
]
WITHOUT_BODY = [(method, path) for method in ("GET", "HEAD", "OPTIONS") for path in ("/login/", "/healthz", "/jobs/")]


def check_refusal(answer: Any, path: str) -> None:
    """Check that an error is one of the API in its addresses, and plain text elsewhere."""
    if not path.startswith(("/api/", "/shard/")):
        assert answer.headers["content-type"].startswith("text/plain")
        return
    error = json.loads(answer.body)["error"]
    assert error["code"] == "request_too_large"
    assert error["message"].startswith("body: ")
    assert list(error["fields"]) == ["body"]


@pytest.mark.parametrize(("method", "path"), OVERSIZED)
def test_a_declared_body_is_refused_before_it_is_sent(web: HttpProcess, method: str, path: str) -> None:
    answer = web.ask(declared(method, path, DECLARED))
    assert answer.status == 413
    check_refusal(answer, path)


@pytest.mark.parametrize(("method", "path"), OVERSIZED)
def test_an_endless_body_reaches_neither_disk_nor_memory(web: HttpProcess, method: str, path: str) -> None:
    before = web.memory_bytes()
    with web.connect() as connection:
        connection.send(head(method, path, CHUNKED))
        connection.send_until_refused(itertools.repeat(CHUNK, SENT // len(CHUNK)))
        assert web.temporary_bytes() == 0
        answer = connection.answer()
        # Otherwise the server would go on reading the body.
        assert connection.is_closed_by_server()
    assert answer.status == 413
    assert web.memory_bytes() - before < GROWTH
    check_refusal(answer, path)


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/healthz", "/no/such"])
def test_the_gateway_refuses_a_declared_body_in_its_own_format(gateway: HttpProcess, path: str) -> None:
    answer = gateway.ask(declared("POST", path, DECLARED))
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["type"] == "request_too_large"


@pytest.mark.parametrize("path", ["/healthz", "/no/such"])
def test_the_gateway_reads_no_endless_body(gateway: HttpProcess, path: str) -> None:
    with gateway.connect() as connection:
        connection.send(head("POST", path, CHUNKED))
        connection.send_until_refused(itertools.repeat(CHUNK, SENT // len(CHUNK)))
        assert gateway.temporary_bytes() == 0
        assert connection.answer().status == 413
        assert connection.is_closed_by_server()


@pytest.mark.parametrize(("method", "path"), WITHOUT_BODY)
def test_a_request_without_use_for_a_body_has_none(server: HttpProcess, method: str, path: str) -> None:
    with server.connect() as connection:
        connection.send(declared(method, path, 1) + b"x")
        # An answer to HEAD has no body, which the client would otherwise wait for.
        assert connection.socket.recv(64).split()[1] == b"413"
    with server.connect() as connection:
        connection.send(head(method, path, CHUNKED) + b"1\r\nx\r\n")
        assert connection.socket.recv(64).split()[1] == b"413"


@pytest.mark.parametrize("connection_header", ["close", "keep-alive"])
def test_a_refused_body_does_not_cost_the_response(server: HttpProcess, connection_header: str) -> None:
    """Send a whole body after the refusal, as proxies do: a reset connection would lose the response."""
    body = b"x" * 3_000_000
    with server.connect() as connection:
        lines = (f"Content-Length: {len(body)}", f"Connection: {connection_header}")
        connection.send(head("POST", "/healthz", *lines))
        connection.socket.recv(1, socket.MSG_PEEK)
        for start in range(0, len(body), 500_000):
            connection.send(body[start : start + 500_000])
        assert connection.answer().status == 413
        assert connection.is_closed_by_server()


def test_a_refused_body_does_not_keep_its_connection(server: HttpProcess) -> None:
    with server.connect() as connection:
        connection.send(declared("POST", "/healthz", DECLARED))
        assert connection.answer().status == 413
        connection.send_until_refused(itertools.repeat(b"x", 1000), pause_s=0.1)
        assert connection.is_closed_by_server()


@pytest.mark.parametrize("sent", [b"", b"1"])
def test_a_body_that_does_not_arrive_is_given_up(web: HttpProcess, sent: bytes) -> None:
    with web.connect() as connection:
        connection.send(declared("POST", "/api/v1/jobs", 100) + sent)
        connection.send_until_refused(itertools.repeat(sent, 90), pause_s=0.1)
        answer = connection.answer()
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], list(error["fields"])) == (408, "request_timeout", ["body"])


def test_the_gateway_gives_up_a_slow_body(gateway: HttpProcess) -> None:
    # Without a token, a call of a model is refused before its body.
    answer = gateway.ask(declared("POST", "/no/such", 100))
    assert (answer.status, json.loads(answer.body)["error"]["type"]) == (408, "timeout_error")


ENDLESS = {
    "lines": (b"GET / HTTP/1.1\r\n", b"x-header: 0123456789\r\n" * 1000),
    "a name": (b"GET / HTTP/1.1\r\n", b"x" * 20_000),
    "a value": (b"GET / HTTP/1.1\r\nx-header: ", b"x" * 20_000),
    "a path": (b"GET /", b"x" * 20_000),
    "trailers": (head("POST", "/v1/messages", CHUNKED) + b"0\r\n", b"x-trailer: 0123456789\r\n" * 1000),
    "a trailer": (head("POST", "/v1/messages", CHUNKED) + b"0\r\nx-trailer: ", b"x" * 20_000),
    "an extension of a chunk": (head("POST", "/v1/messages", CHUNKED) + b"1;a=", b"x" * 20_000),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_headers_are_refused(server: HttpProcess, kind: str) -> None:
    before = server.memory_bytes()
    start, piece = ENDLESS[kind]
    with server.connect() as connection:
        connection.send(start)
        sent = connection.send_until_refused(itertools.repeat(piece, SENT // len(piece)))
        closed = connection.is_closed_by_server(within_s=TIMEOUT_S * 5)
    # The buffers of both sockets hold a few megabytes.
    assert sent < 16 * MB
    assert server.memory_bytes() - before < GROWTH
    assert closed


def test_many_headers_are_refused_with_the_reason(server: HttpProcess) -> None:
    answer = server.ask(head("GET", "/healthz", *(f"x-{number}: 1" for number in range(200))))
    assert answer.status == 431
    assert b"32768 bytes and 100 lines" in answer.body


def test_large_headers_in_one_piece_are_refused(server: HttpProcess) -> None:
    assert server.ask(head("GET", "/healthz", f"x-header: {'x' * 40_000}")).status == 431


def test_pipelined_requests_do_not_pile_up(server: HttpProcess) -> None:
    before = server.memory_bytes()
    with server.connect() as connection:
        requests = head("GET", "/healthz") * 1000
        connection.send_until_refused(itertools.repeat(requests, 100))
        closed = connection.is_closed_by_server()
    assert server.memory_bytes() - before < GROWTH
    assert closed


@pytest.mark.parametrize("start", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nx-header: a"])
def test_a_connection_that_falls_silent_is_closed(server: HttpProcess, start: bytes) -> None:
    with server.connect() as connection:
        connection.send(start)
        assert connection.is_closed_by_server(within_s=TIMEOUT_S * 5)


@pytest.mark.parametrize("drop", [b"x", b"\r\n"])
def test_headers_that_arrive_in_drops_are_given_up(server: HttpProcess, drop: bytes) -> None:
    with server.connect() as connection:
        if drop == b"x":
            connection.send(b"GET /healthz HTTP/1.1\r\nx-header: ")
        sent = connection.send_until_refused(itertools.repeat(drop, 80), pause_s=0.1)
        assert sent < 80 * len(drop)


def test_drops_after_a_response_are_given_up(server: HttpProcess) -> None:
    with server.connect() as connection:
        connection.send(head("GET", "/healthz"))
        assert connection.answer().status == 200
        assert connection.send_until_refused(itertools.repeat(b"\r\n", 80), pause_s=0.1) < 160


def test_a_client_that_reads_nothing_is_disconnected(web: HttpProcess) -> None:
    with web.connect(receive_buffer=4096) as connection:
        # The kernel takes up to 4 MB from the server.
        connection.send(head("GET", LARGE_PAGE) * 10)
        assert wait_until(lambda: web.has_connection(connection))
        assert wait_until(lambda: not web.has_connection(connection))


def silent(server: HttpProcess, source: str, count: int, stack: ExitStack) -> list[RawConnection]:
    return [stack.enter_context(server.connect(source)) for _ in range(count)]


@pytest.fixture(scope="module")
def patient() -> Iterator[HttpProcess]:
    """A server that does not close silent connections during a test."""
    with http_process(GATEWAY, {**LIMITS, "REQUEST_HEADER_TIMEOUT_S": "600"}) as process:
        yield process


def test_one_address_does_not_take_the_connections_of_others(patient: HttpProcess) -> None:
    with ExitStack() as stack:
        silent(patient, "127.0.0.1", PER_ADDRESS, stack)
        refused = patient.ask(head("GET", "/healthz"))
        assert refused.status == 429
        assert patient.ask(head("GET", "/healthz"), OTHERS[0]).status == 200
    assert wait_until(lambda: patient.ask(head("GET", "/healthz")).status == 200)


def test_many_addresses_do_not_take_more_than_all_connections(patient: HttpProcess) -> None:
    with ExitStack() as stack:
        silent(patient, "127.0.0.1", PER_ADDRESS, stack)
        silent(patient, OTHERS[0], TOTAL - PER_ADDRESS, stack)
        assert patient.ask(head("GET", "/healthz"), OTHERS[1]).status == 503
    assert wait_until(lambda: patient.ask(head("GET", "/healthz"), OTHERS[1]).status == 200)


def test_silent_connections_do_not_lock_others_out() -> None:
    """A process with a low limit on open files still serves other clients."""
    limits = {**LIMITS, "REQUEST_HEADER_TIMEOUT_S": "600", "MAX_CONNECTIONS": "4000"}
    with http_process(GATEWAY, limits, files=64) as process, ExitStack() as stack:
        silent(process, "127.0.0.1", 100, stack)
        assert process.ask(head("GET", "/healthz"), OTHERS[0]).status == 200
