"""Cut of the network between a shard and the control plane: a short cut is a pause, and a long one is a loss."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from myctobot.contract.limits import LEASE_S, SELF_STOP_S
from tests.acceptance.client import Client
from tests.faults.effects import World, check_effects, submit_push_job, world
from tests.faults.injection import agents_of, is_frozen, runner_of
from tests.fixtures.network import Network, network
from tests.fixtures.shard_worker import shard_worker
from workers.sandbox import process_tree

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


def use_cable(cable: Network, config: Path) -> Path:
    """Rewrite a shard's configuration to use the addresses behind the cable, and return its path."""
    text: dict[str, Any] = json.loads(config.read_text())
    for name in ("control_url", "broker_url"):
        text[name] = text[name].replace("127.0.0.1", cable.host)
        assert cable.host in text[name]
    text["plain_networks"] = [cable.host]
    config.write_text(json.dumps(text))
    return config


def silent_s(client: Client, shard: str) -> float:
    """Return the seconds since the control plane received the last heartbeat of a shard."""
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


# The long cut takes minutes.
@pytest.mark.long
def test_a_short_cut_pauses_a_job_and_a_long_cut_loses_its_attempt(place: World, tmp_path: Path) -> None:
    client = place.client
    broker = settings_of(client)["REDIS_URL"]
    outside = [port_of(url) for url in (client.stack.web_url, broker)]
    # The control plane and the job give the agent addresses of gateway and repository, so both stay valid inside.
    with network([port_of(client.stack.gateway_url), place.git.port], outside) as cable:
        far = use_cable(cable, client.stack.shards["local"])
        with shard_worker(far, tmp_path / "far.log", prefix=cable.command()):
            _check_short_cut(place, cable)
            _check_long_cut(place, cable, tmp_path / "near.log")


def _check_short_cut(place: World, cable: Network) -> None:
    push = submit_push_job(place, "short-cut", SHORT_CUT_S + 5)
    place.client.wait_event(push.job_id, "tool.call")
    _, runner = runner_of(place.client, push.job_id)
    cable.pull()
    frozen: list[int] = []
    for _ in range(SHORT_CUT_S):
        frozen += [info.pid for info in agents_of(runner.pid) if is_frozen(info.pid)]
        time.sleep(1)
    assert silent_s(place.client, "local") > SHORT_CUT_S / 2, "the cable was not pulled"
    cable.plug()
    assert not frozen, "the agent was stopped"
    assert len(check_effects(place, push)["attempts"]) == 1


def _check_long_cut(place: World, cable: Network, near_log: Path) -> None:
    client = place.client
    push = submit_push_job(place, "long-cut", 45)
    client.wait_event(push.job_id, "tool.call")
    name, runner = runner_of(client, push.job_id)
    assert name == "local"
    # The other shard starts only now, so that the far shard gets the first attempt.
    with shard_worker(client.stack.shards["local-2"], near_log):
        began = time.monotonic()
        cable.pull()
        agent = agents_of(runner.pid)[0].pid
        wait_until(lambda: is_frozen(agent), "the agent was not frozen", SELF_STOP_S + 20)
        assert time.monotonic() - began > SELF_STOP_S - 15, "the agent was frozen too soon"
        client.wait(push.job_id, lambda job: len(job["attempts"]) == 2 and bool(job["phase"]), LONG_CUT_S)
        assert agents_of(runner.pid), "the frozen agent ended before the end of the cut"
        time.sleep(max(0.0, LONG_CUT_S - (time.monotonic() - began)))
        agents = {info.pid for info in agents_of(runner.pid)}
        cable.plug()
        # The control plane tells the runner that it is fenced, and the runner ends its agent and itself.
        wait_until(
            lambda: not runner.is_alive() and not agents & process_tree.snapshot().keys(),
            "the runner or its agent still runs",
        )
        first, second = check_effects(place, push)["attempts"]
        assert (first["state"], first["shard"]) == ("lost", "local")
        assert (second["outcome"], second["shard"]) == ("completed", "local-2")
