"""Valid fields of the console's form for a new job."""

from __future__ import annotations

from typing import Any


def form(**changes: Any) -> dict[str, Any]:
    return {
        "type": "prompt", "prompt": "Fix it.", "capabilities": ["git", "filesystem"], "priority": "normal",
        "timeout_min": "5", "max_turns": "7", "max_attempts": "2", "idempotency_key": "once", **changes,
    }  # fmt: skip
