"""Whether a job is tried again after an attempt that failed, and when. Pure.

An attempt that was lost or failed by the shard's doing is worth another try. One that the agent spoilt is not, unless
the job asks for it: it cost money, and would cost the same again. One that the request itself spoilt (a repository that
is not there, a token that is refused) never is. And whatever failed, a job whose capabilities have effects outside
(a mail sent, a ticket closed) is repeated by a person alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Cause(StrEnum):
    """Whose doing a failure was."""

    INFRASTRUCTURE = "infrastructure"
    AGENT = "agent"
    TIMEOUT = "timeout"
    REQUEST = "request"


# What a tenant may ask to be tried again.
RETRYABLE_CAUSES: Final = (Cause.INFRASTRUCTURE, Cause.AGENT, Cause.TIMEOUT)
# Codes that say no more than whose doing it was; any other is the agent's by its name, the shard's when the runner
# calls it retryable, and else the request's.
_TIMEOUTS: Final = frozenset({"timeout", "no_output"})
_SHARD: Final = frozenset({"lost", "interrupted", "runner_error", "agent_cli_missing"})
# Another shard may be free at once, the same one needs a moment; what is broken for minutes must not use all tries up.
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0
MAX_ATTEMPTS: Final = 10


def cause_of(code: str, *, retryable: bool) -> Cause:
    """Tell whose doing a failure was.

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


@dataclass(frozen=True)
class Verdict:
    """What becomes of a job whose attempt failed.

    Attributes:
        again: whether there is another attempt.
        pause_s: how long it waits before, in seconds.
        note: a sentence that says so, and why.
    """

    again: bool
    pause_s: float
    note: str


def decide(
    cause: Cause,
    *,
    tries: int,
    max_attempts: int,
    retry_on: Collection[str],
    capabilities: Collection[str],
    repeatable: Collection[str],
) -> Verdict:
    """Decide whether a job is tried again.

    Args:
        cause: of the failure.
        tries: attempts that have run, this one too.
        max_attempts: that may run in all.
        retry_on: causes that the job wants tried again.
        capabilities: that the job asked for.
        repeatable: those whose effects may happen twice without harm.
    """
    if cause not in retry_on:
        return Verdict(False, 0, "")
    if unsafe := sorted(set(capabilities) - set(repeatable)):
        return Verdict(False, 0, f"It is not repeated by itself because of {', '.join(unsafe)}; retry it.")
    if tries >= max_attempts:
        return Verdict(False, 0, f"It was the last of {max_attempts} attempts; see to the cause, then retry the job.")
    pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (tries - 1))
    return Verdict(True, pause_s, f"The job is tried again in {pause_s:g} s, attempt {tries + 1} of {max_attempts}.")
