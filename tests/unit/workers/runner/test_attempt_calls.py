"""Calls of an attempt besides its events: the token of the repository, and the agent's work."""

from __future__ import annotations

import asyncio
import base64
import random
from pathlib import Path

import pytest

from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import GitTokenRequest
from myctobot.contract.work import (
    WORK_PART_BYTES,
    ReadWorkRequest,
    StoreWorkAnswer,
    StoreWorkRequest,
    WorkFile,
    WorkManifest,
)
from workers.control_plane import AttemptFenced, CallRefused, ControlPlane, ControlPlaneUnreachable
from workers.errors import JobError
from workers.runner.attempt_calls import AttemptCalls

JOB = "job_0123456789abcdefghjk"


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


def read_token(redactor: Redactor, *answers: str | Exception | None) -> str | None:
    calls = AttemptCalls(TokenControlPlane(*answers), JOB, 1, "t" * 40, redactor, "old-token-0000")
    return asyncio.run(calls.read_token())


def test_a_token_that_was_replaced_is_masked_too() -> None:
    redactor = Redactor(["old-token-0000"])
    assert read_token(redactor, "new-token-1111") == "new-token-1111"
    assert redactor.redact_text("old-token-0000 new-token-1111") == "*** ***"


def test_the_token_is_asked_for_until_the_control_plane_answers() -> None:
    assert read_token(Redactor(), ControlPlaneUnreachable("away"), None) is None


def test_an_older_control_plane_leaves_the_known_token() -> None:
    refusal = CallRefused("no_such_address", "There is no such address.", {})
    assert read_token(Redactor(), refusal) == "old-token-0000"


@pytest.mark.parametrize(
    ("code", "error"), [("unknown_secret", "secret_unavailable"), ("secret_not_allowed", "secret_not_allowed")]
)
def test_a_secret_that_is_gone_ends_the_tries(code: str, error: str) -> None:
    with pytest.raises(JobError) as caught:
        read_token(Redactor(), CallRefused(code, "The secret is gone.", {}))
    assert (caught.value.code, str(caught.value)) == (
        error,
        "The job's repo_token cannot be read any more. The secret is gone.",
    )
    with pytest.raises(AttemptFenced):
        read_token(Redactor(), AttemptFenced("fenced", "Stop.", {}))


MANIFEST = WorkManifest(
    base="a" * 40,
    start="a" * 40,
    head="b" * 40,
    branch="topic",
    ready=True,
    files={},
    result={"summary": "canary-0000"},
)


class WorkControlPlane(ControlPlane):
    """Control plane that stores parts in memory, and gives an answer in place of the first ones."""

    def __init__(self, *answers: Exception) -> None:
        super().__init__("http://127.0.0.1:9", "mcts_probe")
        self._answers = list(answers)
        self.parts: dict[tuple[str, int], str] = {}
        self.manifest: WorkManifest | None = None

    async def store_work(self, job_id: str, claim_token: str, request: StoreWorkRequest) -> StoreWorkAnswer:
        if self._answers:
            raise self._answers.pop(0)
        # The manifest comes last.
        assert self.manifest is None
        self.parts[request["file"], request["number"]] = request["data"]
        self.manifest = request.get("manifest")
        return StoreWorkAnswer(expires_at=None)

    async def read_work(self, job_id: str, claim_token: str, request: ReadWorkRequest) -> str:
        if self._answers:
            raise self._answers.pop(0)
        return self.parts[request["file"], request["number"]]


def calls_of(control: ControlPlane, *secrets: str) -> AttemptCalls:
    return AttemptCalls(control, JOB, 1, "t" * 40, Redactor(secrets), None)


def stored(tmp_path: Path, control: WorkControlPlane, size: int) -> Path:
    bundle, patch = tmp_path / "work.bundle", tmp_path / "work.patch"
    bundle.write_bytes(random.Random(size).randbytes(size))
    patch.write_bytes(b"")
    files = {WorkFile.BUNDLE: bundle, WorkFile.PATCH: patch}
    asyncio.run(calls_of(control, "canary-0000").store_work(files, MANIFEST))
    return bundle


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.runner.attempt_calls.PAUSE_S", 0)


@pytest.mark.parametrize("size", [0, 1, WORK_PART_BYTES, WORK_PART_BYTES + 1])
def test_work_is_stored_in_parts_and_read_as_it_was(tmp_path: Path, size: int) -> None:
    control = WorkControlPlane(ControlPlaneUnreachable("away"))
    bundle = stored(tmp_path, control, size)
    assert control.manifest is not None
    assert control.manifest["files"]["bundle"]["bytes"] == size
    assert control.manifest["result"] == {"summary": "***"}
    copy = tmp_path / "copy"
    asyncio.run(calls_of(control).fetch_work(control.manifest, copy))
    assert copy.read_bytes() == bundle.read_bytes()


def test_work_that_differs_from_its_manifest_is_not_used(tmp_path: Path) -> None:
    control = WorkControlPlane()
    stored(tmp_path, control, 100)
    assert control.manifest is not None
    for number, data in enumerate((base64.b64encode(b"x" * 100).decode(), "no base64!")):
        control.parts["bundle", 0] = data
        with pytest.raises(JobError) as caught:
            asyncio.run(calls_of(control).fetch_work(control.manifest, tmp_path / str(number)))
        assert caught.value.code == "work_unusable"


def test_a_refusal_is_an_error_of_the_job_and_a_fence_ends_the_attempt(tmp_path: Path) -> None:
    refusal = CallRefused("work_too_large", "The work of one job may have 64 MB.", {})
    with pytest.raises(JobError, match="does not keep the agent's work: The work of one job may have 64 MB") as caught:
        stored(tmp_path, WorkControlPlane(refusal), 10)
    assert caught.value.code == "work_not_kept"
    with pytest.raises(AttemptFenced):
        stored(tmp_path, WorkControlPlane(AttemptFenced("fenced", "Stop.", {})), 10)
