"""Times of a worker's heartbeats."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from myctobot.contract.shards import HeartbeatAnswer
from workers.config import load_config
from workers.worker.heartbeat import HeartbeatSender
from workers.worker.spawner import Spawner

ANSWER = HeartbeatAnswer(shard="probe", queues=["cap.git"], orders=[])


class CountingSender(HeartbeatSender):
    """Sender that counts its heartbeats instead of calling the control plane."""

    beats = 0

    def beat(self) -> HeartbeatAnswer:
        self.beats += 1
        return ANSWER


def _until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


@pytest.fixture
def answered() -> Event:
    return Event()


@pytest.fixture
def heartbeat(tmp_path: Path, answered: Event) -> Iterator[CountingSender]:
    path = tmp_path / "config.json"
    facts = {"shard_id": "probe", "control_url": "http://127.0.0.1:9", "broker_url": "redis://127.0.0.1:9/0"}
    paths = {"run_path": str(tmp_path / "run"), "cleanup": {"workspace_path": str(tmp_path / "jobs")}}
    path.write_text(json.dumps({**facts, **paths, "shard_key": "mcts_probe", "capabilities": ["git"]}))
    config = load_config(path)
    spawner = Spawner(config, path)
    found = CountingSender(config, spawner, lambda answer: answered.set())
    found.start()
    yield found
    found.stop()
    found.join(5)
    spawner.close()


def test_a_requested_heartbeat_is_sent_at_once(heartbeat: CountingSender, answered: Event) -> None:
    began = time.monotonic()
    heartbeat.beat_now()
    assert answered.wait(3)
    assert time.monotonic() - began < 1
    assert heartbeat.beats == 1


def test_many_requests_do_not_send_more_heartbeats_than_allowed(heartbeat: CountingSender) -> None:
    until = time.monotonic() + 1
    while time.monotonic() < until:
        heartbeat.beat_now()
        time.sleep(0.005)
    assert 1 <= heartbeat.beats <= 4


def test_an_error_of_a_sweep_ends_no_heartbeats(heartbeat: CountingSender, tmp_path: Path) -> None:
    # A file whose text is a folder cannot be read.
    (tmp_path / "run" / "job_x.1.7.json").mkdir()
    for beats in (1, 2):
        heartbeat.beat_now()
        assert _until(lambda: heartbeat.beats >= beats)  # noqa: B023 - called at once
    assert heartbeat.is_alive()


def test_it_stops_at_once(heartbeat: CountingSender) -> None:
    heartbeat.stop()
    heartbeat.join(2)
    assert not heartbeat.is_alive()
    assert heartbeat.beats == 0
