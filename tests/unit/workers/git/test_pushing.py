"""Outcome of a push: every answer of a remote that does not plainly say yes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from workers.errors import JobError
from workers.git.process import OnLine
from workers.git.pushing import MAX_DENIED_TRIES, Pusher, PushOutcome, final_error, may_pass, retry_pauses
from workers.git.remote import Listing

pytestmark = pytest.mark.anyio

SHA, OTHER = "a" * 40, "b" * 40
BUSY = JobError("repo_unreachable", "The server cannot answer now.", retryable=True)
EXPIRED = JobError("repo_auth_failed", "The server did not accept repo_token.")
DENIED = JobError("repo_access_denied", "repo_token has no permission.")
REFUSED = JobError("push_denied", "The server refused the branch.")
REJECTED = JobError("push_rejected", "The branch received other commits.", retryable=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FakeRemote:
    """Remote with an answer for each push and each listing; after the last one, the last one counts."""

    def __init__(self, pushes: list[JobError | None], listings: list[JobError | str | None]) -> None:
        self.pushes, self.listings = pushes, listings
        self.pushed = self.listed = 0
        self.token: str | None = "old"
        self.tokens: list[str | None] = []

    async def push(self, sha: str, branch: str, on_line: OnLine) -> None:
        self.tokens.append(self.token)
        answer = self.pushes[min(self.pushed, len(self.pushes) - 1)]
        self.pushed += 1
        if answer is not None:
            raise answer

    async def list(self, branches: list[str]) -> Listing:
        answer = self.listings[min(self.listed, len(self.listings) - 1)]
        self.listed += 1
        if isinstance(answer, JobError):
            raise answer
        return Listing("main", {} if answer is None else {branches[0]: answer})

    def renew_token(self, token: str | None) -> bool:
        changed, self.token = token != self.token, token
        return changed


class Pushing:
    """Pusher with a fake remote, whose pauses are recorded and take no time."""

    def __init__(
        self,
        pushes: list[JobError | None],
        listings: list[JobError | str | None] | None = None,
        tokens: list[str | None] | None = None,
        retry_s: float = 240,
        check: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.remote = FakeRemote(pushes, listings if listings is not None else [None])
        self.pauses: list[float] = []
        self.lines: list[str] = []
        self._tokens = tokens

        async def allowed() -> None: ...

        self.pusher = Pusher(
            self.remote,
            "feature/ai",
            check or allowed,
            self._log,
            retry_s=retry_s,
            authorize=self._authorize if tokens else None,
            sleep=self._sleep,
        )

    async def _log(self, line: str) -> None:
        self.lines.append(line)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def _authorize(self) -> str | None:
        assert self._tokens
        return self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]

    async def error(self) -> JobError:
        with pytest.raises(JobError) as caught:
            await self.pusher.push(SHA)
        return caught.value


async def test_a_plain_yes_asks_nothing_more() -> None:
    pushing = Pushing([None])
    await pushing.pusher.push(SHA)
    assert (pushing.remote.pushed, pushing.remote.listed, pushing.lines) == (1, 0, [])


@pytest.mark.parametrize("answer", [BUSY, REFUSED, REJECTED, EXPIRED, DENIED])
async def test_a_branch_at_the_commit_is_a_success_after_any_answer(answer: JobError) -> None:
    pushing = Pushing([answer], [SHA])
    await pushing.pusher.push(SHA)
    assert (pushing.remote.pushed, pushing.pauses) == (1, [])
    assert f"the server has feature/ai at {SHA[:10]}" in pushing.lines[0]


async def test_a_fault_that_passes_costs_only_another_push() -> None:
    pushing = Pushing([BUSY, BUSY, None])
    await pushing.pusher.push(SHA)
    assert (pushing.remote.pushed, pushing.pauses) == (3, [1, 2])


@pytest.mark.parametrize("answer", [REFUSED, REJECTED])
async def test_a_refusal_is_final_when_the_branch_is_elsewhere(answer: JobError) -> None:
    pushing = Pushing([answer], [OTHER])
    assert (await pushing.error()).code == answer.code
    assert (pushing.remote.pushed, pushing.remote.listed) == (1, 1)


async def test_a_fault_that_stays_fails_after_some_minutes() -> None:
    pushing = Pushing([BUSY])
    error = await pushing.error()
    assert (error.code, error.retryable, sum(pushing.pauses)) == ("repo_unreachable", True, 240)
    assert str(error).endswith(f"The push was tried {pushing.remote.pushed} times.")


async def test_an_outcome_that_no_answer_tells_is_unknown() -> None:
    error = await Pushing([BUSY], [BUSY], retry_s=3).error()
    assert (error.code, error.retryable) == ("push_unconfirmed", True)
    assert "Whether the branch 'feature/ai' has the commits is unknown" in str(error)


async def test_a_later_try_finds_the_commits_of_an_earlier_one() -> None:
    pushing = Pushing([BUSY], [BUSY, SHA])
    await pushing.pusher.push(SHA)
    assert (pushing.remote.pushed, pushing.remote.listed) == (2, 2)


async def test_a_token_that_was_replaced_is_used_at_once() -> None:
    pushing = Pushing([EXPIRED, None], tokens=["new"])
    await pushing.pusher.push(SHA)
    assert (pushing.remote.tokens, pushing.pauses) == (["old", "new"], [])


async def test_a_token_that_expired_has_some_minutes_to_be_replaced() -> None:
    pushing = Pushing([EXPIRED, EXPIRED, None], tokens=["old", "old", "old", "new"])
    await pushing.pusher.push(SHA)
    assert (pushing.remote.tokens, pushing.pauses) == (["old", "old", "new"], [1, 2])


async def test_a_token_that_stays_refused_is_no_unknown_outcome() -> None:
    error = await Pushing([EXPIRED], [EXPIRED], tokens=["old"]).error()
    assert (error.code, error.retryable) == ("repo_auth_failed", False)


async def test_a_refused_token_does_not_make_an_unknown_outcome_certain() -> None:
    error = await Pushing([BUSY, EXPIRED], [BUSY], tokens=["old"]).error()
    assert error.code == "push_unconfirmed"


async def test_a_token_without_the_right_to_write_is_not_tried_for_minutes() -> None:
    pushing = Pushing([DENIED], tokens=["old"])
    assert (await pushing.error()).code == "repo_access_denied"
    assert pushing.remote.pushed == MAX_DENIED_TRIES


async def test_a_push_that_is_not_allowed_does_not_begin() -> None:
    async def refused() -> None:
        raise JobError("default_branch_refused", "branch is the default branch.")

    pushing = Pushing([None], check=refused)
    assert (await pushing.error()).code == "default_branch_refused"
    assert pushing.remote.pushed == 0


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (BUSY, True),
        (EXPIRED, True),
        (REFUSED, False),
        (REJECTED, False),
        (JobError("disk_full", "", retryable=True), False),
    ],
)
def test_only_some_faults_pass(error: JobError, passes: bool) -> None:
    assert may_pass(error, 1) is passes


@pytest.mark.parametrize(
    ("retry_s", "pauses"), [(0, []), (1, [1]), (10, [1, 2, 4, 3]), (240, [1, 2, 4, 8, 16, 32, 60, 60, 57])]
)
def test_the_pauses_grow_and_end(retry_s: float, pauses: list[float]) -> None:
    assert list(retry_pauses(retry_s)) == pauses


def test_one_push_is_not_counted_in_the_message() -> None:
    kept: Any = final_error(PushOutcome.NO, REFUSED, 1, "feature/ai")
    assert (kept.code, str(kept)) == ("push_denied", "The server refused the branch.")
