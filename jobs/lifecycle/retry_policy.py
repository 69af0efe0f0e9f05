"""Retry decision: whether a job runs again after a failed attempt, and when; pure.

An attempt that was lost, or that failed because of the shard, is worth another try. A failure of the agent is retried
only if the job asks for it, because it cost money and would cost the same again. A failure of the request itself, such
as a missing repository or a refused token, is never retried. A job whose capabilities have effects outside (it sends a
mail, it closes a ticket) is repeated by a person only, however it failed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """Origin of a failure."""

    INFRASTRUCTURE = "infrastructure"
    AGENT = "agent"
    TIMEOUT = "timeout"
    REQUEST = "request"


# Causes that a tenant may name in ``retry_on``.
RETRYABLE_CAUSES: Final = (Cause.INFRASTRUCTURE, Cause.AGENT, Cause.TIMEOUT)
# Codes with a fixed cause. The prefix of any other code names the agent; the rest depends on the retryable flag.
_TIMEOUTS: Final = frozenset({"timeout", "no_output"})
_SHARD: Final = frozenset({"lost", "interrupted", "runner_error", "agent_cli_missing"})
# Another shard may be free at once, and the same one needs a moment. A fault of some minutes must not use up all tries.
FIRST_PAUSE_S: Final = 5.0
# The agent has waited already, and a busy provider is the same for every shard.
PROVIDER_PAUSE_S: Final = 120.0
_PROVIDER: Final = frozenset({"model_unavailable"})
LONGEST_PAUSE_S: Final = 300.0
MAX_ATTEMPTS: Final = 10


def classify_failure(code: str, *, retryable: bool) -> Cause:
    """Return the cause of a failure.

    Args:
        code: of the attempt's error.
        retryable: whether the runner says that the same may well succeed elsewhere or later.
    """
    if code in _TIMEOUTS:
        return Cause.TIMEOUT
    if code in _SHARD:
        return Cause.INFRASTRUCTURE
    if code.startswith("agent_"):
        return Cause.AGENT
    return Cause.INFRASTRUCTURE if retryable else Cause.REQUEST


def first_pause_s(code: str) -> float:
    """Return the pause after the first failure with this code, in seconds."""
    return PROVIDER_PAUSE_S if code in _PROVIDER else FIRST_PAUSE_S


@dataclass(frozen=True)
class RetryDecision:
    """Decision about a job whose attempt failed.

    Attributes:
        retry: whether there is another attempt.
        pause_s: wait before it, in seconds.
        note: a sentence for the job that gives the decision and its reason.
    """

    retry: bool
    pause_s: float
    note: str


def decide_retry(
    cause: Cause,
    *,
    tries: int,
    max_attempts: int,
    retry_on: Collection[str],
    capabilities: Collection[str],
    repeatable: Collection[str],
    first_pause_s: float = FIRST_PAUSE_S,
) -> RetryDecision:
    """Decide whether a job gets another attempt.

    Args:
        cause: of the failure.
        tries: attempts that have run, including this one.
        max_attempts: attempts that may run in all.
        retry_on: causes that the job wants to be retried.
        capabilities: those that the job asked for.
        repeatable: those whose effects may happen twice without harm.
        first_pause_s: pause after the first failure, in seconds.
    """
    if cause not in retry_on:
        return RetryDecision(False, 0, "")
    if unsafe := sorted(set(capabilities) - set(repeatable)):
        return RetryDecision(False, 0, f"It is not repeated automatically because of {', '.join(unsafe)}; retry it.")
    if tries >= max_attempts:
        return RetryDecision(
            False, 0, f"It was the last of {max_attempts} attempts; see to the cause, then retry the job."
        )
    pause_s = min(LONGEST_PAUSE_S, first_pause_s * 2 ** (tries - 1))
    return RetryDecision(
        True, pause_s, f"The job is tried again in {pause_s:g} s, attempt {tries + 1} of {max_attempts}."
    )
