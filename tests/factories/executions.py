"""Work of an attempt without a runner; its control plane does not answer."""

from __future__ import annotations

from typing import Any

from myctobot.contract.redaction import Redactor
from workers.config import ShardConfig
from workers.control_plane import ControlPlane
from workers.runner.attempt_calls import AttemptCalls
from workers.runner.execution import Execution


def make_execution(config: ShardConfig, answer: Any, slot: int = 0) -> Execution:
    """Return the work of the attempt that an answer to a claim names."""
    control = ControlPlane(config.control_url, config.shard_key)
    calls = AttemptCalls(control, answer["job_id"], answer["attempt"], "mctc_probe", Redactor([]), None)
    return Execution(config, answer, slot, calls)
