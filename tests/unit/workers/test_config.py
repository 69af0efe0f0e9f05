from __future__ import annotations

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
