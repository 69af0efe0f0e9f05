"""Time limit of an attempt whose agent waits for a busy model, which is not the agent's fault."""

from __future__ import annotations

from typing import Any

from myctobot.contract.jobs import EventKind
from workers.errors import JobError
from workers.executors.base import Emit
from workers.executors.claude_code import MODEL_RETRY


class ModelWait:
    """Observer of an agent's events; ``is_waiting`` while its latest calls of the model have no answer."""

    def __init__(self) -> None:
        self.is_waiting = False

    def observe(self, emit: Emit) -> Emit:
        """Return a receiver of events that passes each on."""

        async def observed(kind: EventKind, data: dict[str, Any]) -> None:
            self.is_waiting = kind is EventKind.WARNING and data.get("code") == MODEL_RETRY
            await emit(kind, data)

        return observed

    def timeout_error(self, timeout_s: int) -> JobError:
        """Return the error of an attempt whose time is over."""
        if self.is_waiting:
            return JobError(
                "model_unavailable",
                f"The model's provider is busy or does not answer, and the job's timeout_s of {timeout_s} s ended "
                "while the agent waited for it; the job can be tried again later.",
                retryable=True,
            )
        return JobError(
            "timeout",
            f"The job ran longer than its timeout_s of {timeout_s} s; raise the limit or ask for less at once.",
        )
