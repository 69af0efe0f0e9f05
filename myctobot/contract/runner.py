"""Requests and answers of a runner: claim, events and finish."""

from __future__ import annotations

from typing import Any, Final, NotRequired, TypedDict

from myctobot.contract.jobs import Event
from myctobot.contract.work import WorkManifest

CLAIM_HEADER: Final = "MyCTOBot-Claim"


EXECUTE_TASK: Final = "shard.execute"


class ClaimRequest(TypedDict):
    """Claim of one attempt."""

    attempt: int
    # Identifies the runner: a repeated claim with the same token gets the same answer, any other token is refused.
    claim_token: str


class TaskPayload(TypedDict):
    """Task that the agent works on."""

    type: str
    prompt: str
    issue_key: NotRequired[str]
    repo_url: NotRequired[str]
    base_branch: NotRequired[str]
    branch: NotRequired[str]
    additional_instructions: NotRequired[str]


class GatewayAccess(TypedDict):
    """Address of the gateway, and the token that the agent sends to it."""

    url: str
    token: str


class PushPolicy(TypedDict):
    """Rights of a push to the job's repository that its tenant decides on."""

    allow_ci_files: bool  # change files that make a CI server run programs
    allow_default_branch: bool  # push to the remote's default branch


class ClaimAnswer(TypedDict):
    """Everything that a runner needs for its attempt."""

    job_id: str
    attempt: int
    next_seq: int
    task: TaskPayload
    capabilities: list[str]
    timeout_s: int  # limit of the whole attempt, from the claim; time in which the agent is frozen does not count
    no_output_timeout_s: NotRequired[int | None]  # limit of the agent's silence, counted in the same way
    max_turns: int
    # Secrets for the runner, never for the agent, such as the git token or key. They are sent once.
    secrets: dict[str, str]
    gateway: GatewayAccess
    push_policy: NotRequired[PushPolicy]  # of the task's repository; without it, a runner allows nothing
    work_max_mb: NotRequired[int]  # bound of the work that the control plane keeps; without it, it keeps none
    on_failure: NotRequired[str]  # an ``OnFailure``; without it, nothing is pushed after a failure
    work: NotRequired[WorkManifest | None]  # work of an earlier attempt: push it, and run no agent
    # Name of the tenant for the repository's objects, which the shard may keep for its next jobs; without it, none.
    object_scope: NotRequired[str]


class EventsRequest(TypedDict):
    """Batch of events, which also renews the lease."""

    attempt: int
    first_seq: int
    events: list[Event]  # an empty list only renews the lease
    phase: NotRequired[str]


class LeaseAnswer(TypedDict):
    """Answer to every call of a runner that owns its attempt."""

    next_seq: int
    lease_s: int
    cancel: bool


class GitTokenRequest(TypedDict):
    """Question for the token of the job's repository as it is now."""

    attempt: int


class GitTokenAnswer(TypedDict):
    """Token or key for the job's repository; null when the job has none."""

    token: str | None


class FinishError(TypedDict):
    """Reason of a failed attempt."""

    code: str
    message: str
    retryable: bool


class CancelProof(TypedDict):
    """Proof that no process of the job is left."""

    processes_killed: int
    processes_left: int
    checked_at: str


class FinishRequest(TypedDict):
    """Report that ends an attempt."""

    attempt: int
    outcome: str
    final_seq: int
    result: dict[str, Any]
    error: NotRequired[FinishError | None]
    proof: NotRequired[CancelProof | None]
