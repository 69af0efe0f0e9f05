"""Wait for a container's SSH server before Ansible runs."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from shards.operations.configure import await_ssh
from shards.providers.errors import ProviderUnreachable


def greet(server: socket.socket, *words: bytes) -> None:
    """Answer each connection with one of the given texts."""

    def serve() -> None:
        for word in words:
            way, _ = server.accept()
            with way:
                way.sendall(word)

    threading.Thread(target=serve, daemon=True).start()


def test_a_server_that_comes_late_is_waited_for() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))

        def come() -> None:
            server.listen()
            greet(server, b"", b"SSH-2.0-OpenSSH\r\n")

        threading.Timer(0.3, come).start()
        begun = time.monotonic()
        await_ssh("127.0.0.1", server.getsockname()[1], 20)
        assert 0.3 < time.monotonic() - begun < 20


@pytest.mark.parametrize("word", [b"", b"HTTP/1.1 400"])
def test_another_server_is_not_an_ssh_server(word: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        greet(server, word)
        with pytest.raises(ProviderUnreachable, match="what answers is not an SSH server"):
            await_ssh("127.0.0.1", server.getsockname()[1], 0)


def test_a_closed_port_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ProviderUnreachable, match="refused"):
        await_ssh("127.0.0.1", port, 0)
