"""Push of one commit until its outcome is certain: yes, no, or unknown.

A failed push says little: a server may have stored the commits before the connection broke. So the remote is asked for
the branch after each push that did not plainly succeed. After a fault that may pass, only the push is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from enum import Enum
from typing import Final, Protocol

from workers.errors import JobError
from workers.git.process import OnLine
from workers.git.remote import Listing

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 60.0
# A server may answer 403 to a caller for a moment, but most often the token may not write.
MAX_DENIED_TRIES: Final = 3
_NOT_ACCEPTED: Final = "repo_auth_failed"
_DENIED: Final = "repo_access_denied"
# Another try of the job may succeed, but not another push of the same commit from this shard.
_FINAL: Final = frozenset({"push_rejected", "disk_full", "ssh_missing", "ssh_agent_failed"})


class PushOutcome(Enum):
    """Outcome of one push."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class PushTarget(Protocol):
    """Remote that commits are pushed to."""

    async def list(self, branches: list[str]) -> Listing: ...

    async def push(self, sha: str, branch: str, on_line: OnLine) -> None: ...

    def renew_token(self, token: str | None) -> bool:
        """Use another token from now on, and return whether it is another one."""


# Confirms the attempt and returns the job's present token, before the push is tried again.
Authorize = Callable[[], Awaitable[str | None]]


class Pusher:
    """Push of one commit to one branch, never by force.

    Args:
        check: raises JobError if the push is not allowed; it is called before each try.
        log: receives lines for the job's log.
        retry_s: seconds after the first failed push in which further ones begin.
        authorize: None keeps the token.
    """

    def __init__(
        self,
        remote: PushTarget,
        branch: str,
        check: Callable[[], Awaitable[None]],
        log: OnLine,
        *,
        retry_s: float,
        authorize: Authorize | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._remote, self._branch, self._check, self._log = remote, branch, check, log
        self._retry_s, self._authorize, self._sleep = retry_s, authorize, sleep
        # Only an answer about the branch changes what an earlier push left unknown.
        self._outcome = PushOutcome.NO

    async def push(self, sha: str) -> None:
        """Push a commit; return only when the remote's branch is at it.

        Raises:
            JobError: the push failed, and a further try would too or the time for them is over.
                ``push_unconfirmed`` when the commit may be on the remote.
        """
        tries = 1
        error = await self._try(sha)
        for pause_s in retry_pauses(self._retry_s):
            if error is None or not may_pass(error, tries):
                break
            if error.code in (_NOT_ACCEPTED, _DENIED) and await self._renew():
                await self._log(f"The push failed: {error} It is tried again with the token that was stored since.")
            else:
                await self._log(f"The push failed: {error} It is tried again in {pause_s:g} s.")
                await self._sleep(pause_s)
                await self._renew()
            tries += 1
            error = await self._try(sha)
        if error is not None:
            raise final_error(self._outcome, error, tries, self._branch)

    async def _try(self, sha: str) -> JobError | None:
        """Push once, and return the error of a push that did not succeed."""
        try:
            await self._check()
        except JobError as error:
            # Nothing was sent, so what an earlier push left unknown stays unknown.
            return error
        try:
            await self._remote.push(sha, self._branch, self._log)
        except JobError as error:
            await self._ask(sha, error)
            return None if self._outcome is PushOutcome.YES else error
        self._outcome = PushOutcome.YES
        return None

    async def _ask(self, sha: str, error: JobError) -> None:
        """Ask the remote for the branch after a push that failed."""
        try:
            listing = await self._remote.list([self._branch])
        except JobError:
            # A server that refuses a caller did not carry out this push, but perhaps an earlier one.
            if may_have_arrived(error):
                self._outcome = PushOutcome.UNKNOWN
            return
        self._outcome = PushOutcome.NO
        if listing.branches.get(self._branch) == sha:
            self._outcome = PushOutcome.YES
            await self._log(f"The answer to the push was lost, and the server has {self._branch} at {sha[:10]}")

    async def _renew(self) -> bool:
        return self._authorize is not None and self._remote.renew_token(await self._authorize())


def retry_pauses(retry_s: float) -> Iterator[float]:
    """Yield the pauses before further tries, each twice as long as the one before, ``retry_s`` in all."""
    pause_s, left_s = FIRST_PAUSE_S, retry_s
    while left_s > 0:
        yield min(pause_s, left_s)
        left_s -= pause_s
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def may_have_arrived(error: JobError) -> bool:
    """Tell whether the remote may have stored a push that failed."""
    return error.retryable and error.code not in _FINAL


def may_pass(error: JobError, tries: int) -> bool:
    """Tell whether another push of the same commit may succeed after a failed one.

    Args:
        tries: pushes so far.
    """
    if error.code == _DENIED:
        return tries < MAX_DENIED_TRIES
    # A token that expired during the job may be replaced while the pushes are tried.
    return error.code == _NOT_ACCEPTED or may_have_arrived(error)


def final_error(outcome: PushOutcome, error: JobError, tries: int, branch: str) -> JobError:
    """Return the error of the job after the last push."""
    count = f" The push was tried {tries} times." if tries > 1 else ""
    if outcome is PushOutcome.UNKNOWN:
        return JobError(
            "push_unconfirmed",
            f"Whether the branch '{branch}' has the commits is unknown: the push failed, and the server could not be "
            f"asked. Check the branch. {error}{count}",
            retryable=True,
        )
    return JobError(error.code, f"{error}{count}", retryable=error.retryable)
