"""Names and shapes on the wire between the control plane and its shards.

All that ``workers/`` imports of the control plane, so it uses the standard library alone. Both sides check what the
other sends against the rules here: neither trusts a job because the other accepted it.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Final, NotRequired, TypedDict
from urllib.parse import quote, urlsplit

# --- Times, in seconds. The lease's figures belong together: 10 < 40 < 60 < 90. ---------------------

LEASE_S: Final = 60
RENEW_EVERY_S: Final = 10
SELF_STOP_S: Final = 40  # a runner that has heard nothing for this long must not let its agent act any further
LOST_AFTER_S: Final = 90  # the control plane gives an attempt up after this, by the database's clock
HEARTBEAT_EVERY_S: Final = 5
# A sent attempt that nobody claimed by then is withdrawn and its number burnt.
CLAIM_DEADLINE_S: Final = 30

# --- Sizes, in bytes. ------------------------------------------------------------------------------

MAX_EVENT_BYTES: Final = 256 * 1024
MAX_BATCH_BYTES: Final = 256 * 1024
MAX_BATCH_EVENTS: Final = 500
MAX_PROMPT_BYTES: Final = 256 * 1024
MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_URL_LENGTH: Final = 2000
MAX_BRANCH_LENGTH: Final = 200  # bytes of UTF-8, which is what the file systems under git count
MIN_SECRET_LENGTH: Final = 8

CLAIM_HEADER: Final = "MyCTOBot-Claim"
EXECUTE_TASK: Final = "shard.execute"


class JobStatus(StrEnum):
    """The five public statuses of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL: Final = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})


class Phase(StrEnum):
    """What a running job is doing; an empty string otherwise."""

    PREPARING = "preparing"
    CLONING = "cloning"
    AGENT = "agent"
    PUSHING = "pushing"
    REPORTING = "reporting"


class TaskType(StrEnum):
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
    DIFF = "git.diff"  # {base, head, files, insertions, deletions, commits, patch, truncated}
    PUSHED = "git.pushed"  # {branch, sha}
    WARNING = "job.warning"  # {code, message}
    RESULT = "job.result"  # {outcome, summary?, error?}
    TRUNCATED = "event.truncated"  # {kind, bytes, start}: an event that was too large; so many bytes were cut
    # {first_seq, events, bytes, reason: bound|retention}: stands for every number from first_seq to its own
    DROPPED = "log.dropped"
    END = "end"  # {count, status}: made by the stream, never stored and without a number of its own


class Outcome(StrEnum):
    """How a runner says that its attempt ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Event(TypedDict):
    """One event: ``seq`` counts from 1 within the job, without gaps, across attempts."""

    seq: int
    at: str  # RFC 3339, UTC, as the shard's clock had it; order comes from seq alone
    kind: str
    data: dict[str, Any]


def bounded(kind: str, data: dict[str, Any]) -> tuple[str, dict[str, Any], str]:
    """Cut an event of more than ``MAX_EVENT_BYTES`` to its beginning; the third value is its data as JSON."""
    text = json.dumps(data, separators=(",", ":"))
    if len(text) <= MAX_EVENT_BYTES:
        return kind, data, text
    kept = text[: MAX_EVENT_BYTES // 2]
    cut = {"kind": kind, "bytes": len(text) - len(kept), "start": kept}
    return EventKind.TRUNCATED.value, cut, json.dumps(cut, separators=(",", ":"))


class ClaimRequest(TypedDict):
    attempt: int
    # The runner's alone: a claim repeated with it gets the same answer again, with any other it is refused.
    claim_token: str


class TaskPayload(TypedDict):
    type: str
    prompt: str
    issue_key: NotRequired[str]
    repo_url: NotRequired[str]
    base_branch: NotRequired[str]
    branch: NotRequired[str]
    additional_instructions: NotRequired[str]


class GatewayAccess(TypedDict):
    url: str
    token: str


class ClaimAnswer(TypedDict):
    job_id: str
    attempt: int
    next_seq: int
    task: TaskPayload
    capabilities: list[str]
    timeout_s: int  # of the whole attempt, from the claim; time in which the agent is frozen does not count
    no_output_timeout_s: NotRequired[int | None]  # of the agent's silence, counted likewise
    max_turns: int
    # The git token or key and whatever else the runner, not the agent, may hold. Sent once.
    secrets: dict[str, str]
    gateway: GatewayAccess


class EventsRequest(TypedDict):
    attempt: int
    first_seq: int
    events: list[Event]  # may be empty: then it only renews the lease
    phase: NotRequired[str]


class LeaseAnswer(TypedDict):
    """The answer to every call of a runner that holds its attempt."""

    next_seq: int
    lease_s: int
    cancel: bool


class FinishError(TypedDict):
    code: str
    message: str
    retryable: bool


class CancelProof(TypedDict):
    """What the runner checked before it said that nothing of the job runs any more."""

    processes_killed: int
    processes_left: int
    checked_at: str


class FinishRequest(TypedDict):
    attempt: int
    outcome: str
    final_seq: int
    result: dict[str, Any]
    error: NotRequired[FinishError | None]
    proof: NotRequired[CancelProof | None]


class HeartbeatRequest(TypedDict):
    version: str
    capabilities: list[str]
    slots: int
    running: list[str]  # "job_id.attempt" of every live runner on the shard
    cpu_percent: float
    memory_mb: int
    memory_total_mb: int
    disk_free_mb: int
    versions: dict[str, str]


class HeartbeatAnswer(TypedDict):
    shard: str
    queues: list[str]
    orders: list[str]


class EnrolRequest(TypedDict):
    token: str  # one-time


class EnrolAnswer(TypedDict):
    config: dict[str, Any]  # what belongs into config.json: the shard's key and its own broker user are in it


# --- Capabilities and queues -----------------------------------------------------------------------

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


def is_slug(value: str) -> bool:
    """Whether ``value`` is a lower-case slug of at most 40 characters."""
    return _SLUG.fullmatch(value) is not None


def shard_class(capabilities: Iterable[str], pool: str | None = None) -> str:
    """Name a class, e.g. ``filesystem+git@premium``; ``ValueError``: no capability, or something is not a slug."""
    names = sorted(set(capabilities))
    for name in [*names, *([pool] if pool is not None else [])]:
        if not is_slug(name):
            raise ValueError(f"{name!r} is not a lower-case slug (a-z, 0-9 and inner dashes, at most 40 characters)")
    if not names:
        raise ValueError("a shard needs at least one capability")
    return "+".join(names) + (f"@{pool}" if pool else "")


def class_queue(capabilities: Iterable[str], pool: str | None = None) -> str:
    """Name the queue that every shard of a class consumes, e.g. ``cap.filesystem+git``."""
    return "cap." + shard_class(capabilities, pool)


def shard_queue(name: str) -> str:
    """Name a shard's own queue."""
    return f"shard.{name}"


# --- What a tenant may name ------------------------------------------------------------------------

_BRANCH_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_SCP_LIKE = re.compile(r"[^/@:]+@[^/:]+:.*")


def branch_problem(name: str) -> str | None:
    """Say what is wrong with a branch name by git-check-ref-format(1), or None; ``refs/…`` names another ref."""
    if not name or len(name.encode(errors="replace")) > MAX_BRANCH_LENGTH:
        return f"must have 1 to {MAX_BRANCH_LENGTH} bytes in UTF-8"
    if name.startswith("-"):
        return "must not start with a dash"
    if _BRANCH_FORBIDDEN.search(name):
        return "must not contain spaces, control characters, '..', '@{', '//' or any of ~ ^ : ? * [ \\"
    if name.startswith("/") or name.endswith(("/", ".")) or name in ("@", "HEAD") or name.startswith("refs/"):
        return "must be a plain branch name, such as feature/PROJ-123"
    if any(part.startswith(".") or part.endswith(".lock") for part in name.split("/")):
        return "must have no part that starts with a dot or ends with '.lock'"
    return None if name.isprintable() else "must contain printable characters only"


def branch_pair_problem(branch: str, base: str) -> str | None:
    """Say why ``branch`` cannot stand beside its base branch, or None."""
    if branch == base:
        return f"must differ from the base branch '{base}': work is never pushed there"
    nested = branch.startswith(base + "/") or base.startswith(branch + "/")
    return f"cannot exist beside the base branch '{base}'; choose another name" if nested else None


def repo_url_problem(url: str, schemes: Iterable[str]) -> str | None:
    """Say what is wrong with a repository URL, or None.

    Args:
        url: as the tenant wrote it.
        schemes: those allowed here, in lower case: ``https`` and ``ssh``; ``file`` on the embedded stack.
    """
    allowed = sorted(schemes)
    example = "such as https://github.com/user/repo.git"
    if not url or len(url) > MAX_URL_LENGTH:
        return f"must have 1 to {MAX_URL_LENGTH} characters"
    if not url.isprintable() or any(char in url for char in " \\\"'`<>|"):
        return "must not contain spaces, quotes, backslashes or control characters"
    if url.startswith("-"):
        return f"must be a URL, {example}; it looks like a command line option"
    if "::" in url.split("/", 1)[0]:
        return f"must be a plain URL, {example}; git's remote helpers (name::address) are not allowed"
    if "://" not in url:
        hint = "; write ssh://user@host/path instead" if _SCP_LIKE.fullmatch(url) else ""
        return f"must be a URL with a scheme ({', '.join(allowed)}), {example}{hint}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return f"is not a well-formed URL; write one {example}"
    if parts.scheme not in allowed:
        return f"has the scheme '{parts.scheme}'; allowed here: {', '.join(allowed)}"
    return _address_problem(parts.scheme, parts.hostname or "", parts.username, parts.password, parts)


def _address_problem(scheme: str, host: str, user: str | None, password: str | None, parts: Any) -> str | None:
    if parts.query or parts.fragment:
        return "must have no query and no fragment"
    if password is not None or (user is not None and scheme != "ssh"):
        return "must hold no user name or password; give the token as repo_token"
    if ".." in parts.path.split("/") or not parts.path.strip("/"):
        return "must name a repository, without '..' in its path"
    if scheme == "file":
        return "must have no host: file:///absolute/path" if host else None
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+", host):
        return "must name a host by its DNS name or address"
    if user is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", user):
        return "has a user name with characters that are not allowed"
    return None


def is_public_address(address: str) -> bool:
    """Whether an IP address is global unicast: not private, loopback, link-local, shared or mapped onto one."""
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public_address(str(inner))
        # All that is given out lies here; Python calls some of the rest global, such as the old site-local fec0::/10.
        if ip not in ipaddress.ip_network("2000::/3"):
            return False
    return ip.is_global and not ip.is_multicast


# --- Secrets ---------------------------------------------------------------------------------------

_ESCAPE = re.compile(r"%[0-9A-F]{2}")


def secret_spellings(secret: str) -> set[str]:
    """Every spelling under which a secret is looked for: plain, inside JSON (twice, for JSON within JSON),
    URL-encoded (``%2F`` and ``%2f``), in hexadecimal digits, and base64 at each of its three offsets in a text."""
    raw = secret.encode()
    once = json.dumps(secret)[1:-1]
    found = {secret, once, json.dumps(once)[1:-1], raw.hex(), raw.hex().upper()}
    for escaped in (quote(secret, safe=""), quote(secret)):
        found |= {escaped, _ESCAPE.sub(lambda match: match.group().lower(), escaped)}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(b"\0" * offset + raw).decode().rstrip("=")
            # The characters that also encode a neighbouring byte vary, so they are left out.
            start = (0, 2, 3)[offset]
            end = len(text) if (len(raw) + offset) % 3 == 0 else len(text) - 1
            found.add(text[start:end])
    return {spelling for spelling in found if len(spelling) >= MIN_SECRET_LENGTH}


MASK = "***"
MAX_NESTING, TOO_DEEP = 50, "(nested too deep)"  # levels of JSON within an event's data; what stands for the rest


class Cleaner:
    """Masks secrets in every string of a JSON value, and drops NUL and lone surrogates.

    Args:
        secrets: plain values; those shorter than ``MIN_SECRET_LENGTH`` would mask ordinary words and are left out.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        spellings: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET_LENGTH:
                spellings |= secret_spellings(secret)
        # The longest first, so that no spelling leaves the rest of a longer one behind.
        self._spellings = sorted(spellings, key=len, reverse=True)

    def text(self, value: str) -> str:
        # PostgreSQL's text has no NUL, and a lone surrogate is no Unicode text at all. Dropped first: a NUL
        # within a secret would hide it from the search and leave it whole.
        value = value.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
        for spelling in self._spellings:
            if spelling in value:
                value = value.replace(spelling, MASK)
        return value

    def clean(self, value: Any, _depth: int = 0) -> Any:
        """Clean every string in it, keys too; what is nested too deep is left out: agents choose their tools' input."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list | dict) and _depth >= MAX_NESTING:
            return TOO_DEEP
        if isinstance(value, list):
            return [self.clean(item, _depth + 1) for item in value]
        if isinstance(value, dict):
            return {self.text(str(key)): self.clean(item, _depth + 1) for key, item in value.items()}
        return value
