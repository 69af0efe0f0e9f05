"""Servers in a thread of the test process end with their block."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.fixtures.serving import serving


def fail_with_the_number_of_threads() -> None:
    raise RuntimeError(threading.active_count())


def test_the_thread_ends_and_the_server_is_closed_after_an_error() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match=f"^{before + 1}$"), serving(server):
        fail_with_the_number_of_threads()
    assert threading.active_count() == before
    assert server.fileno() == -1
