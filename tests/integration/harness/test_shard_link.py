"""Link of a shard: it passes data on, holds it during a cut, and delivers it afterwards."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fixtures.shard_link import shard_link


@pytest.fixture
def echo() -> Iterator[str]:
    """Serve one connection, and return what arrives."""

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            while data := connection.recv(1000):
                connection.sendall(data)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield f"redis://shard:pw@127.0.0.1:{listener.getsockname()[1]}/0"
    thread.join(10)
    assert not thread.is_alive()


def test_a_cut_link_holds_data_until_it_is_plugged_in(echo: str, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    before = json.dumps({"control_url": "http://127.0.0.1:9", "broker_url": echo, "other": 1})
    config.write_text(before)
    with shard_link(config) as link:
        values = json.loads(config.read_text())
        assert values["other"] == 1
        assert values["broker_url"].startswith("redis://shard:pw@127.0.0.1:")
        assert values["broker_url"] != echo
        with socket.create_connection(("127.0.0.1", urlsplit(values["broker_url"]).port or 0), 10) as client:
            client.settimeout(10)
            client.sendall(b"one")
            assert client.recv(10) == b"one"
            link.pull()
            client.sendall(b"two")
            client.settimeout(0.5)
            with pytest.raises(TimeoutError):
                client.recv(10)
            link.plug()
            client.settimeout(10)
            assert client.recv(10) == b"two"
    assert config.read_text() == before
