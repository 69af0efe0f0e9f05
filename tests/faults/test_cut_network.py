"""The cable between a shard and the control plane is pulled: for a while that is a pause, and for longer a loss."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from myctobot.contract.jobs import LEASE_S, SELF_STOP_S
from tests.acceptance.client import Client
from tests.faults.effects import World, reckon, submit_piece, world
from tests.faults.injection import agents_of, is_frozen, runner_of
from tests.fixtures.network import Network, network
from tests.fixtures.shard_worker import shard_worker
from workers.sandbox.sandbox import process_tree

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600), pytest.mark.needs("ip")]

SHORT_CUT_S = 20
LONG_CUT_S = 2 * LEASE_S


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, "--shards", "2", "--without", "shard") as made:
        yield made


def settings_of(client: Client) -> dict[str, str]:
    lines = (client.stack.home / "env").read_text().splitlines()
    return dict(line.partition("=")[::2] for line in lines)


def port_of(url: str) -> int:
    return urlsplit(url).port or 0


def behind(cable: Network, config: Path) -> Path:
    """The shard's configuration, with the addresses that lead over the cable."""
    text: dict[str, Any] = json.loads(config.read_text())
    for name in ("control_url", "broker_url"):
        text[name] = text[name].replace("127.0.0.1", cable.host)
        assert cable.host in text[name]
    config.write_text(json.dumps(text))
    return config


def silent_s(client: Client, shard: str) -> float:
    """For how long the control plane has heard nothing of a shard."""
    with psycopg.connect(settings_of(client)["DATABASE_URL"]) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM now() - last_heartbeat_at)::float8 FROM shards_shard WHERE name = %s", [shard]
        ).fetchone()
    assert row is not None
    return float(row[0])


def wait_until(what: Callable[[], object], words: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline, words
        time.sleep(0.2)


def test_a_short_cut_is_a_pause_and_a_long_one_a_loss(place: World, tmp_path: Path) -> None:
    client = place.client
    broker = settings_of(client)["REDIS_URL"]
    outside = [port_of(url) for url in (client.stack.web_url, broker)]
    # The agent is told the gateway's address by the control plane, and the repository's by its job: the same inside.
    with network([port_of(client.stack.gateway_url), place.git.port], outside) as cable:
        far = behind(cable, client.stack.shards["local"])
        with shard_worker(far, tmp_path / "far.log", prefix=cable.command()):
            _short(place, cable)
            _long(place, cable, tmp_path / "near.log")


def _short(place: World, cable: Network) -> None:
    piece = submit_piece(place, "short-cut", SHORT_CUT_S + 5)
    place.client.wait_event(piece.job_id, "tool.call")
    _, runner = runner_of(place.client, piece.job_id)
    cable.pull()
    frozen: list[int] = []
    for _ in range(SHORT_CUT_S):
        frozen += [info.pid for info in agents_of(runner.pid) if is_frozen(info.pid)]
        time.sleep(1)
    assert silent_s(place.client, "local") > SHORT_CUT_S / 2, "the cable was not pulled"
    cable.plug()
    assert not frozen, "the agent was stopped"
    assert len(reckon(place, piece)["attempts"]) == 1


def _long(place: World, cable: Network, near_log: Path) -> None:
    client = place.client
    piece = submit_piece(place, "long-cut", 45)
    client.wait_event(piece.job_id, "tool.call")
    name, runner = runner_of(client, piece.job_id)
    assert name == "local"
    # The other one is there only now, so that the first attempt is the far shard's.
    with shard_worker(client.stack.shards["local-2"], near_log):
        began = time.monotonic()
        cable.pull()
        agent = agents_of(runner.pid)[0].pid
        wait_until(lambda: is_frozen(agent), "not frozen", SELF_STOP_S + 20)
        assert time.monotonic() - began > SELF_STOP_S - 15, "frozen too soon"
        client.wait(piece.job_id, lambda job: len(job["attempts"]) == 2 and bool(job["phase"]), LONG_CUT_S)
        assert agents_of(runner.pid), "the frozen agent was to wait for the end of the cut"
        time.sleep(max(0.0, LONG_CUT_S - (time.monotonic() - began)))
        agents = {info.pid for info in agents_of(runner.pid)}
        cable.plug()
        # It is told that it is fenced, and ends its agent and itself.
        wait_until(lambda: not runner.is_alive() and not agents & process_tree.snapshot().keys(), "the runner goes on")
        first, second = reckon(place, piece)["attempts"]
        assert (first["state"], first["shard"]) == ("lost", "local")
        assert (second["outcome"], second["shard"]) == ("completed", "local-2")
