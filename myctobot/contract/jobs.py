"""Statuses, phases, outcomes and events of a job."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, Final, TypedDict

from myctobot.contract.limits import MAX_EVENT_BYTES


class JobStatus(StrEnum):
    """The five public statuses of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


class Phase(StrEnum):
    """Step that a running job is in; the field is an empty string in every other status."""

    PREPARING = "preparing"
    CLONING = "cloning"
    AGENT = "agent"
    PUSHING = "pushing"
    REPORTING = "reporting"


class TaskType(StrEnum):
    """Kind of work that a job asks for."""

    PROMPT = "prompt"
    IMPLEMENT_TICKET = "implement_ticket"


class EventKind(StrEnum):
    """Kinds of events; the comment is the shape of ``data``."""

    PHASE = "job.phase"  # {phase, detail?}
    LOG = "log.line"  # {source: git|agent|runner, text}
    AGENT_STARTED = "agent.started"  # {model, tools, mcp_servers: [{name, status}], cli_version}
    AGENT_MESSAGE = "agent.message"  # {text}
    AGENT_THINKING = "agent.thinking"  # {text}
    TOOL_CALL = "tool.call"  # {id, name, input}
    TOOL_RESULT = "tool.result"  # {id, output, is_error}
    USAGE = "agent.usage"  # {input_tokens, output_tokens, cost_usd?, turns?}
    # {base, head, files, insertions, deletions, commits, patch, truncated, left_out?: name of commits not pushed}
    DIFF = "git.diff"
    PUSHED = "git.pushed"  # {branch, sha}
    WARNING = "job.warning"  # {code, message}
    RESULT = "job.result"  # {outcome, summary?, error?}
    TRUNCATED = "event.truncated"  # {kind, bytes, start}: replaces an event that was too large; bytes were cut
    # {first_seq, events, bytes, reason: bound|retention}: replaces every event from first_seq to its own number
    DROPPED = "log.dropped"
    END = "end"  # {count, status}: the stream adds it; it is never stored and has no number


class Outcome(StrEnum):
    """End of an attempt, as its runner reports it."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(TypedDict):
    """One event; ``seq`` counts from 1 within the job, without gaps, across all attempts."""

    seq: int
    at: str  # RFC 3339 in UTC, by the shard's clock; only seq defines the order
    kind: str
    data: dict[str, Any]


def truncate_event(kind: str, data: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Return kind, data and the data as JSON; an event of more than ``MAX_EVENT_BYTES`` keeps only its beginning."""
    text = json.dumps(data, separators=(",", ":"))
    if len(text) <= MAX_EVENT_BYTES:
        return kind, data, text
    kept = text[: MAX_EVENT_BYTES // 2]
    cut = {"kind": kind, "bytes": len(text) - len(kept), "start": kept}
    return EventKind.TRUNCATED.value, cut, json.dumps(cut, separators=(",", ":"))
