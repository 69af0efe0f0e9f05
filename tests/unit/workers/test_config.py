from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from workers.config import ConfigError, ShardConfig, parse_config


def parsed(**sections: dict[str, Any]) -> ShardConfig:
    required = {
        "shard_id": "probe",
        "control_url": "https://control.example",
        "broker_url": "rediss://broker.example",
        "shard_key": "mcts_probe",
        "capabilities": ["git"],
    }
    return parse_config({**required, **sections})


@pytest.mark.parametrize(
    ("sandbox", "git", "words"),
    [
        ({}, {"max_repo_mb": 8192}, "a repository of 8192 MB, but only 2048 MB fit sandbox.file_size_mb"),
        ({"disk_mb": 1000}, {"max_repo_mb": 600}, "only 500 MB fit 2 times in sandbox.disk_mb"),
        ({"disk_mb": 1000, "file_size_mb": 1001}, {}, "sandbox.file_size_mb allows a file of 1001 MB"),
    ],
)  # fmt: skip
def test_limits_that_contradict_each_other_are_named(sandbox: dict[str, Any], git: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parsed(sandbox=sandbox, git=git)


@pytest.mark.parametrize(
    ("sandbox", "git", "file_mb", "repo_mb", "commits_mb"),
    [
        ({}, {}, 2048, 2048, 1024),
        ({"disk_mb": 1000}, {}, 1000, 500, 1000),
        ({"file_size_mb": 100}, {}, 100, 100, 100),
        ({"file_size_mb": 8192, "disk_mb": 40_000}, {"max_repo_mb": 8000}, 8192, 8000, 1024),
    ],
)
def test_limits_follow_from_each_other(
    sandbox: dict[str, Any], git: dict[str, Any], file_mb: int, repo_mb: int, commits_mb: int
) -> None:
    config = parsed(sandbox=sandbox, git=git)
    found = (config.limits.file_size_mb, config.git.max_repo_mb, config.git.max_bundle_mb)
    assert found == (file_mb, repo_mb, commits_mb)


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
