"""Table of the changes of a job: where each may start, and which columns it sets; pure.

Nothing else states how the status and the waiting fields change. The statements of all writers are made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from jobs.models.states import ALLOWED, Hold
from myctobot.contract.jobs import TERMINAL, JobStatus

_NOW: Final = "statement_timestamp()"
# Columns that only the transitions set. ``sealed`` holds the encrypted secrets.
OWNED_COLUMNS: Final = frozenset(
    {"status", "phase", "hold", "waiting_code", "waiting_reason", "ready_at", "queue_deadline", "started_at"}
    | {"finished_at", "sealed", "error_code", "error_message", "error_retryable", "has_log", "cancel_requested_at"}
)


@dataclass(frozen=True, eq=False)
class JobTransition:
    """Change of a job's status and waiting fields.

    Attributes:
        name: for errors and tests.
        sources: statuses in which it may start.
        columns: SQL expression by column; ``%(name)s`` is a value of the caller.
        target: status after it; None when the status stays.
        holds: holds in which it may start; None for any.
        frees_slot: whether the job gives back its slot, and with it its place under its concurrency key.
    """

    name: str
    sources: frozenset[JobStatus]
    columns: Mapping[str, str]
    target: JobStatus | None = None
    holds: frozenset[Hold] | None = None
    frees_slot: bool = False

    @property
    def assignments(self) -> str:
        """Assignments for the SET of an UPDATE of ``jobs_job``."""
        status = {} if self.target is None else {"status": f"'{self.target.value}'"}
        return ", ".join(f"{column} = {value}" for column, value in {**status, **self.columns}.items())

    def condition(self, column: Callable[[str], str] = str) -> str:
        """Return the SQL condition under which it may start.

        Args:
            column: writes a column's name, such as ``without_index``.
        """
        allowed = [(column("status"), [source.value for source in self.sources])]
        if self.holds is not None:
            allowed.append((column("hold"), [hold.value for hold in self.holds]))
        return " AND ".join(f"{name} IN ({_literals(values)})" for name, values in allowed)


def _literals(values: list[str]) -> str:
    return ", ".join(f"'{value}'" for value in sorted(values))


def sources_of(target: JobStatus) -> frozenset[JobStatus]:
    """Return the statuses from which a job may get this one."""
    return frozenset(source for source, targets in ALLOWED.items() if target in targets)


_QUEUED: Final = frozenset({JobStatus.QUEUED})
_RUNNING: Final = frozenset({JobStatus.RUNNING})
_NOT_WAITING: Final = {"hold": "''", "queue_deadline": "NULL", "waiting_code": "''", "waiting_reason": "''"}
_WAITING_BECAUSE: Final = {"waiting_code": "%(code)s", "waiting_reason": "%(reason)s"}


def _end(target: JobStatus) -> JobTransition:
    """Return the transition to an end: secrets go with it. Values: code, message, retryable, result (JSON text)."""
    columns = {
        "phase": "''",
        **_NOT_WAITING,
        "finished_at": _NOW,
        "sealed": "NULL",
        "error_code": "%(code)s",
        "error_message": "%(message)s",
        "error_retryable": "%(retryable)s",
        "result": "%(result)s",
        "has_log": "log_bytes > 0",
    }
    return JobTransition(f"end as {target.value}", sources_of(target), columns, target, frees_slot=True)


# A dispatch round gives the job an attempt and a queue.
DISPATCH: Final = JobTransition(
    "dispatch",
    _QUEUED,
    {"hold": "'sent'", "waiting_code": "'dispatched'", "waiting_reason": "'A shard is about to take this job.'"},
    holds=frozenset({Hold.NONE}),
)
# A dispatch round sets the job aside until another one with its concurrency key ends.
HOLD_FOR_KEY: Final = JobTransition("hold for key", _QUEUED, {"hold": "'key'"}, holds=frozenset({Hold.NONE}))
# The pause of a delayed job is over, or a place under its concurrency key is free.
RELEASE: Final = JobTransition(
    "release",
    _QUEUED,
    {"hold": "''", "waiting_code": "'new'", "waiting_reason": "''"},
    holds=frozenset({Hold.DELAYED, Hold.CONCURRENCY}),
)
# An attempt that no runner claimed ends; the job keeps its place in the queue. Values: code, reason.
WITHDRAW: Final = JobTransition(
    "withdraw", _QUEUED, {"hold": "''", **_WAITING_BECAUSE}, holds=frozenset({Hold.DISPATCHED})
)
# An operator puts a waiting job back into the queue. Values: code, reason.
REQUEUE_WAITING: Final = JobTransition("requeue while waiting", _QUEUED, {"hold": "''", **_WAITING_BECAUSE})
# A runner claims the attempt.
START: Final = JobTransition(
    "start",
    _QUEUED,
    {"phase": "'preparing'", **_NOT_WAITING, "started_at": f"COALESCE(started_at, {_NOW})"},
    target=JobStatus.RUNNING,
    holds=frozenset({Hold.DISPATCHED}),
)
# The runner reports. Values: phase (None keeps it).
REPORT: Final = JobTransition("report", _RUNNING, {"phase": "COALESCE(%(phase)s, phase)"})
# A member asks for a cancel.
REQUEST_CANCEL: Final = JobTransition("request cancel", _QUEUED | _RUNNING, {"cancel_requested_at": _NOW})
# The job waits for its next attempt. Values: pause_s (float), code, reason.
REQUEUE: Final = JobTransition(
    "requeue",
    sources_of(JobStatus.QUEUED),
    {
        "phase": "''",
        "hold": "CASE WHEN %(pause_s)s > 0 THEN 'time' ELSE '' END",
        "ready_at": f"{_NOW} + make_interval(secs => %(pause_s)s)",
        "queue_deadline": f"{_NOW} + make_interval(secs => %(pause_s)s + queue_timeout_s)",
        **_WAITING_BECAUSE,
    },
    target=JobStatus.QUEUED,
    frees_slot=True,
)
END: Final = {status: _end(status) for status in sorted(TERMINAL)}
# The log of an old job is removed.
DROP_LOG: Final = JobTransition("drop log", TERMINAL, {"has_log": "false", "log_bytes": "0", "log_head_seq": "0"})

ALL_TRANSITIONS: Final = (
    *(DISPATCH, HOLD_FOR_KEY, RELEASE, WITHDRAW, REQUEUE_WAITING, START, REPORT, REQUEST_CANCEL, REQUEUE),
    *(*END.values(), DROP_LOG),
)
