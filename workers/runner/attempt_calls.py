"""Calls of a running attempt besides its events: the token of the repository, and the agent's work."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import GitTokenRequest
from myctobot.contract.work import (
    WORK_PART_BYTES,
    KeptFile,
    ReadWorkRequest,
    StoreWorkRequest,
    WorkFile,
    WorkManifest,
)
from workers.control_plane import AttemptFenced, CallRefused, ControlPlane, ControlPlaneUnreachable
from workers.errors import JobError
from workers.git.kept_work import unusable

T = TypeVar("T")

log = logging.getLogger("runner")

PAUSE_S: Final = 2.0
# Codes of a refused call for a secret, and of the job that fails because of it.
_SECRET_ERRORS: Final = {"unknown_secret": "secret_unavailable", "secret_not_allowed": "secret_not_allowed"}


class AttemptCalls:
    """Calls of one attempt. Each is repeated until the control plane answers.

    Args:
        redactor: masks a new token from then on.
        token: the token of the claim's answer.
    """

    def __init__(
        self,
        control: ControlPlane,
        job_id: str,
        attempt: int,
        claim_token: str,
        redactor: Redactor,
        token: str | None,
    ) -> None:
        self._control, self._job_id, self._attempt, self._claim_token = control, job_id, attempt, claim_token
        self._redactor, self._token = redactor, token

    async def read_token(self) -> str | None:
        """Return the present token of the job's repository, which the tenant may have replaced since the claim.

        Raises:
            JobError: the stored secret is gone, or the job may not use it any more.
            AttemptFenced: the attempt is no longer the job's current one.
        """
        request = GitTokenRequest(attempt=self._attempt)
        try:
            token = await self._until_answered(
                lambda: self._control.git_token(self._job_id, self._claim_token, request)
            )
        except AttemptFenced:
            raise
        except CallRefused as refusal:
            if code := _SECRET_ERRORS.get(refusal.code):
                raise JobError(code, f"The job's repo_token cannot be read any more. {refusal}") from refusal
            # A control plane of an earlier release does not have this call.
            log.warning("%s: the token is not read again: %s", self._job_id, refusal)
            return self._token
        if token:
            self._redactor.add_secret(token)
        return token

    async def store_work(self, files: Mapping[WorkFile, Path], manifest: WorkManifest) -> None:
        """Store the files of the agent's work, and then their manifest, which gets their sizes and digests.

        Raises:
            JobError: the control plane has no room for them.
            AttemptFenced: the attempt is no longer the job's current one.
        """
        described = {file.value: _describe(path) for file, path in files.items()}
        complete = WorkManifest(**{**manifest, "files": described})
        parts = [(file, number) for file in files for number in range(_count_parts(described[file.value]["bytes"]))]
        for place in parts:
            file, number = place
            request = StoreWorkRequest(
                attempt=self._attempt,
                file=file.value,
                number=number,
                data=base64.b64encode(_read_part(files[file], number)).decode(),
                manifest=self._redactor.redact(complete) if place == parts[-1] else None,
            )
            await self._store(request)

    async def _store(self, request: StoreWorkRequest) -> None:
        try:
            await self._until_answered(lambda: self._control.store_work(self._job_id, self._claim_token, request))
        except AttemptFenced:
            raise
        except CallRefused as refusal:
            raise JobError("work_not_kept", f"The control plane does not keep the agent's work: {refusal}") from refusal

    async def fetch_work(self, manifest: WorkManifest, path: Path) -> None:
        """Write the bundle of kept work to a new file, and check it against its manifest.

        Raises:
            JobError: ``work_unusable``, the work is gone or differs from its manifest.
            AttemptFenced: the attempt is no longer the job's current one.
        """
        described = manifest["files"][WorkFile.BUNDLE.value]
        with path.open("xb") as file:
            for number in range(_count_parts(described["bytes"])):
                request = ReadWorkRequest(attempt=self._attempt, file=WorkFile.BUNDLE.value, number=number)
                file.write(await self._read(request))
        if _describe(path) != described:
            raise unusable("it differs from what was stored")

    async def _read(self, request: ReadWorkRequest) -> bytes:
        try:
            encoded = await self._until_answered(
                lambda: self._control.read_work(self._job_id, self._claim_token, request)
            )
            return base64.b64decode(encoded.encode(), validate=True)[:WORK_PART_BYTES]
        except AttemptFenced:
            raise
        except CallRefused as refusal:
            raise unusable(str(refusal).rstrip(".")) from refusal
        except binascii.Error as error:
            raise unusable("a part of it is damaged") from error

    async def _until_answered(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except ControlPlaneUnreachable as error:
                log.warning("%s: a call is repeated: %s", self._job_id, error)
                await asyncio.sleep(PAUSE_S)


def _count_parts(size: int) -> int:
    """Return the number of parts of a file; an empty one has one, too."""
    return max(1, -(-size // WORK_PART_BYTES))


def _read_part(path: Path, number: int) -> bytes:
    with path.open("rb") as file:
        file.seek(number * WORK_PART_BYTES)
        return file.read(WORK_PART_BYTES)


def _describe(path: Path) -> KeptFile:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return KeptFile(bytes=path.stat().st_size, sha256=digest.hexdigest())
