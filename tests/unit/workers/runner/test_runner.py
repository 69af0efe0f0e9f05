"""Answers of the control plane to a runner: a claim for another attempt, and the token of the repository."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, cast

import pytest

from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import ClaimAnswer, ClaimRequest, GitTokenRequest
from tests.integration.workers.test_main import config_file
from workers.config import load_config
from workers.control_plane import AttemptFenced, CallRefused, ControlPlane, ControlPlaneUnreachable
from workers.errors import JobError
from workers.runner.runner import Runner
from workers.runner_registry import RunnerEntry

JOB = "job_0123456789abcdefghjk"


class OtherControlPlane(ControlPlane):
    """Control plane that answers each claim with the same attempt."""

    def __init__(self, job_id: Any, attempt: Any) -> None:
        super().__init__("http://127.0.0.1:9", "mcts_probe")
        self._other = {"job_id": job_id, "attempt": attempt}

    async def claim(self, job_id: str, request: ClaimRequest) -> ClaimAnswer:
        return cast(ClaimAnswer, self._other)


@pytest.mark.parametrize(("job_id", "attempt"), [("../victim", 1), (JOB, 2), (JOB, "1"), (f"{JOB[:-1]}z", 1)])
def test_it_builds_no_path_from_the_answer(tmp_path: Path, job_id: Any, attempt: Any) -> None:
    config = load_config(config_file(tmp_path))
    before = sorted(tmp_path.rglob("*"))
    runner = Runner(config, OtherControlPlane(job_id, attempt), RunnerEntry(os.getpid(), 1, JOB, 1, 0))
    asyncio.run(runner.run())
    assert sorted(tmp_path.rglob("*")) == before


class TokenControlPlane(ControlPlane):
    """Control plane that gives these answers to calls for the repository's token."""

    def __init__(self, *answers: str | Exception | None) -> None:
        super().__init__("http://127.0.0.1:9", "mcts_probe")
        self._answers = list(answers)

    async def git_token(self, job_id: str, claim_token: str, request: GitTokenRequest) -> str | None:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def read_token(tmp_path: Path, redactor: Redactor, *answers: str | Exception | None) -> str | None:
    runner = Runner(load_config(config_file(tmp_path)), TokenControlPlane(), RunnerEntry(os.getpid(), 1, JOB, 1, 0))
    return asyncio.run(runner._read_token(TokenControlPlane(*answers), redactor, "old-token-0000"))


def test_a_token_that_was_replaced_is_masked_too(tmp_path: Path) -> None:
    redactor = Redactor(["old-token-0000"])
    assert read_token(tmp_path, redactor, "new-token-1111") == "new-token-1111"
    assert redactor.redact_text("old-token-0000 new-token-1111") == "*** ***"


def test_the_token_is_asked_for_until_the_control_plane_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_pause(seconds: float) -> None: ...

    monkeypatch.setattr("workers.runner.runner.asyncio.sleep", no_pause)
    assert read_token(tmp_path, Redactor(), ControlPlaneUnreachable("away"), None) is None


def test_an_older_control_plane_leaves_the_known_token(tmp_path: Path) -> None:
    refusal = CallRefused("no_such_address", "There is no such address.", {})
    assert read_token(tmp_path, Redactor(), refusal) == "old-token-0000"


@pytest.mark.parametrize(
    ("code", "error"), [("unknown_secret", "secret_unavailable"), ("secret_not_allowed", "secret_not_allowed")]
)
def test_a_secret_that_is_gone_ends_the_tries(tmp_path: Path, code: str, error: str) -> None:
    with pytest.raises(JobError) as caught:
        read_token(tmp_path, Redactor(), CallRefused(code, "The secret is gone.", {}))
    assert (caught.value.code, str(caught.value)) == (
        error,
        "The job's repo_token cannot be read any more. The secret is gone.",
    )
    with pytest.raises(AttemptFenced):
        read_token(tmp_path, Redactor(), AttemptFenced("fenced", "Stop.", {}))
