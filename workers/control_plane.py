"""HTTP clients of the control plane, for the runner and for the worker."""

from __future__ import annotations

from types import TracebackType
from typing import Any, cast

import httpx

from myctobot.contract.runner import (
    CLAIM_HEADER,
    ClaimAnswer,
    ClaimRequest,
    EventsRequest,
    FinishRequest,
    GitTokenAnswer,
    GitTokenRequest,
    LeaseAnswer,
)
from myctobot.contract.shards import HeartbeatAnswer, HeartbeatRequest
from myctobot.contract.work import WORK_ARTIFACT, ReadWorkAnswer, ReadWorkRequest, StoreWorkAnswer, StoreWorkRequest

# Several tries must fit into the 40 s after which a runner without an answer stops its agent.
TIMEOUT = httpx.Timeout(10.0, connect=3.0)


class ControlError(Exception):
    """Call of the control plane failed."""


class ControlPlaneUnreachable(ControlError):
    """Missing answer, or one that says nothing about the request (408, 429, 5xx); another try may succeed."""


class CallRefused(ControlError):
    """Control plane refused the call (4xx); the same call would be refused again.

    Args:
        code: code of the error.
        message: sentence of the error.
        data: whole error object.
    """

    def __init__(self, code: str, message: str, data: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class AttemptFenced(CallRefused):
    """Attempt is not the job's current one; the runner must stop without a report."""


def check_answer(response: httpx.Response) -> dict[str, Any]:
    """Return the control plane's answer.

    Raises:
        CallRefused: the control plane refused the call.
        ControlPlaneUnreachable: this is not an answer of the control plane, or it cannot answer now.
    """
    if response.is_success:
        return _object(response)
    if response.status_code >= 500 or response.status_code in (408, 429):
        raise ControlPlaneUnreachable(f"the control plane answered with status {response.status_code}")
    error = _object(response).get("error")
    if not isinstance(error, dict):
        raise ControlPlaneUnreachable(f"a different server answered with status {response.status_code}")
    kind = AttemptFenced if error.get("code") in ("fenced", "not_claimable", "unknown_job") else CallRefused
    raise kind(str(error.get("code")), str(error.get("message")), error)


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        # The control plane always answers with an object. This may be the error page of a proxy.
        raise ControlPlaneUnreachable(f"a different server answered with status {response.status_code}")
    return answer


class ControlPlane:
    """Client of one runner.

    Args:
        base_url: address of the control plane.
        shard_key: key that is sent with every call.
    """

    def __init__(self, base_url: str, shard_key: str) -> None:
        # The environment (proxies, certificates, netrc) must not redirect these calls or add credentials.
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"Authorization": f"Bearer {shard_key}"},
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
        )

    async def __aenter__(self) -> ControlPlane:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def _post(
        self, path: str, body: Any, headers: dict[str, str] | None = None, method: str = "POST"
    ) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise ControlPlaneUnreachable(
                f"the control plane cannot be reached: {error or type(error).__name__}"
            ) from error
        return check_answer(response)

    async def claim(self, job_id: str, request: ClaimRequest) -> ClaimAnswer:
        """Claim an attempt.

        Raises:
            AttemptFenced: the attempt cannot be claimed; nothing ran.
            CallRefused: the call is invalid, such as one with a wrong shard key.
            ControlPlaneUnreachable: try again with the same claim token.
        """
        return cast(ClaimAnswer, await self._post(f"/shard/v1/jobs/{job_id}/claim", request))

    async def events(self, job_id: str, claim_token: str, request: EventsRequest) -> LeaseAnswer:
        """Post a batch, which may be empty, and renew the lease. Raises the same errors as ``claim``."""
        headers = {CLAIM_HEADER: claim_token}
        return cast(LeaseAnswer, await self._post(f"/shard/v1/jobs/{job_id}/events", request, headers))

    async def git_token(self, job_id: str, claim_token: str, request: GitTokenRequest) -> str | None:
        """Return the present token of the job's repository. Raises the same errors as ``claim``."""
        headers = {CLAIM_HEADER: claim_token}
        answer = cast(GitTokenAnswer, await self._post(f"/shard/v1/jobs/{job_id}/git-token", request, headers))
        return answer["token"]

    async def store_work(self, job_id: str, claim_token: str, request: StoreWorkRequest) -> StoreWorkAnswer:
        """Store a part of the agent's work; the call is idempotent. Raises the same errors as ``claim``."""
        path, headers = f"/shard/v1/jobs/{job_id}/artifacts/{WORK_ARTIFACT}", {CLAIM_HEADER: claim_token}
        return cast(StoreWorkAnswer, await self._post(path, request, headers, "PUT"))

    async def read_work(self, job_id: str, claim_token: str, request: ReadWorkRequest) -> str:
        """Return a part of kept work as base64. Raises the same errors as ``claim``."""
        path, headers = f"/shard/v1/jobs/{job_id}/artifacts/{WORK_ARTIFACT}", {CLAIM_HEADER: claim_token}
        return cast(ReadWorkAnswer, await self._post(path, request, headers))["data"]

    async def finish(self, job_id: str, claim_token: str, request: FinishRequest) -> LeaseAnswer:
        """End the attempt; the call is idempotent. Raises the same errors as ``claim``."""
        headers = {CLAIM_HEADER: claim_token}
        return cast(LeaseAnswer, await self._post(f"/shard/v1/jobs/{job_id}/finish", request, headers))


class WorkerControlPlane:
    """Client of the shard's Celery worker, which is not asynchronous."""

    def __init__(self, base_url: str, shard_key: str) -> None:
        self._client = httpx.Client(
            base_url=base_url,
            headers={"Authorization": f"Bearer {shard_key}"},
            timeout=TIMEOUT,
            trust_env=False,
            follow_redirects=False,
        )

    def heartbeat(self, report: HeartbeatRequest) -> HeartbeatAnswer:
        """Send a heartbeat.

        Raises:
            CallRefused: the call is invalid, such as one with a wrong shard key.
            ControlPlaneUnreachable: try again later.
        """
        try:
            response = self._client.post("/shard/v1/heartbeat", json=report)
        except httpx.HTTPError as error:
            raise ControlPlaneUnreachable(
                f"the control plane cannot be reached: {error or type(error).__name__}"
            ) from error
        return cast(HeartbeatAnswer, check_answer(response))

    def close(self) -> None:
        self._client.close()
