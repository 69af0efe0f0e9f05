"""Mount namespace of a runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from myctobot.contract.shards import IsolationKind
from tests.integration.workers.test_main import config_file
from workers.config import ShardConfig, load_config
from workers.runner import main as runner_main
from workers.sandbox import isolation
from workers.sandbox.isolation import Isolation


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardConfig:
    def refuse() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runner_main, "enter_private_mounts", refuse)
    return load_config(config_file(tmp_path))


def test_a_runner_whose_mounts_would_be_visible_claims_nothing(config: ShardConfig) -> None:
    isolation.store(config.run_path, Isolation(IsolationKind.SANDBOX, disk_images=True))
    assert not runner_main._keep_mounts_private(config)
    assert "cannot be kept private" in isolation.read_problem(config.run_path)


@pytest.mark.parametrize("decided", [None, Isolation(IsolationKind.SANDBOX)])
def test_a_runner_without_images_needs_no_namespace(config: ShardConfig, decided: Isolation | None) -> None:
    if decided is not None:
        isolation.store(config.run_path, decided)
    assert runner_main._keep_mounts_private(config)
    assert isolation.read_problem(config.run_path) == ""
