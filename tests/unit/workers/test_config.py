from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.config import ConfigError, ShardConfig, parse_config


def parse(**changes: Any) -> ShardConfig:
    values = {
        **{"shard_id": "general-1", "control_url": "http://127.0.0.1:8000", "broker_url": "redis://127.0.0.1:6379/0"},
        **{"shard_key": "mcts_x", "capabilities": ["git"]},
    }
    return parse_config(values | changes)


def test_kept_objects_are_next_to_the_workspaces() -> None:
    assert parse().git.object_cache == Path("/var/lib/claude-shard/jobs-objects")
    own = parse(cleanup={"workspace_path": "/srv/jobs"}).git
    assert (own.object_cache, own.object_cache_mb) == (Path("/srv/jobs-objects"), 10_240)


def test_a_shard_can_keep_no_objects_and_fetch_no_submodules() -> None:
    git = parse(git={"object_cache_mb": 0, "submodules": False}).git
    assert (git.object_cache_mb, git.submodules) == (0, False)


@pytest.mark.parametrize(
    ("key", "value"), [("object_cache_mb", -1), ("object_cache_mb", True), ("submodules", "no"), ("object_cache", "/x")]
)
def test_a_wrong_value_is_named(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"git.{key}"):
        parse(git={key: value})
