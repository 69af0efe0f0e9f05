"""When a worker asks for its orders."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from myctobot.contract.jobs import HeartbeatAnswer
from workers.config import load_config
from workers.worker.heartbeat import Heartbeat
from workers.worker.spawner import Spawner

ANSWER = HeartbeatAnswer(shard="probe", queues=["cap.git"], orders=[])


class Told(Heartbeat):
    """Counts instead of calling the control plane."""

    beats = 0

    def beat(self) -> HeartbeatAnswer:
        self.beats += 1
        return ANSWER


@pytest.fixture
def heard() -> Event:
    return Event()


@pytest.fixture
def heartbeat(tmp_path: Path, heard: Event) -> Iterator[Told]:
    path = tmp_path / "config.json"
    facts = {"shard_id": "probe", "control_url": "http://127.0.0.1:9", "broker_url": "redis://127.0.0.1:9/0"}
    paths = {"run_path": str(tmp_path / "run"), "cleanup": {"workspace_path": str(tmp_path / "jobs")}}
    path.write_text(json.dumps({**facts, **paths, "shard_key": "mcts_probe", "capabilities": ["git"]}))
    config = load_config(path)
    spawner = Spawner(config, path)
    found = Told(config, spawner, lambda answer: heard.set())
    found.start()
    yield found
    found.stop()
    found.join(5)
    spawner.close()


def test_it_asks_at_once_when_it_is_told_to(heartbeat: Told, heard: Event) -> None:
    began = time.monotonic()
    heartbeat.ask_now()
    assert heard.wait(3)
    assert time.monotonic() - began < 1
    assert heartbeat.beats == 1


def test_it_asks_no_more_often_for_being_told_often(heartbeat: Told) -> None:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        heartbeat.ask_now()
        time.sleep(0.005)
    assert 1 <= heartbeat.beats <= 4


def test_it_stops_at_once(heartbeat: Told) -> None:
    heartbeat.stop()
    heartbeat.join(2)
    assert not heartbeat.is_alive()
    assert heartbeat.beats == 0
