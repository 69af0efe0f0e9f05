"""The runner's line to the control plane."""

from __future__ import annotations

from types import TracebackType
from typing import Any, cast

import httpx

from myctobot.contract.jobs import (
    CLAIM_HEADER,
    ClaimAnswer,
    ClaimRequest,
    EventsRequest,
    FinishRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    LeaseAnswer,
)

# Every call: short enough that several tries fit before a silent runner must stop its agent (40 s).
TIMEOUT = httpx.Timeout(10.0, connect=3.0)


class ControlError(Exception):
    """The control plane did not do what was asked."""


class Unreachable(ControlError):
    """No answer, or one that says nothing about the request (5xx): worth another try."""


class Refused(ControlError):
    """The control plane understood and refused (4xx): the same call will not do better.

    Args:
        code: the error's code.
        message: its sentence.
        data: the whole error object.
    """

    def __init__(self, code: str, message: str, data: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class Fenced(Refused):
    """This attempt is not the job's present one: stop and forget."""


def check_answer(response: httpx.Response) -> dict[str, Any]:
    """Return what the control plane answered, or raise ``Refused`` or ``Unreachable``."""
    if response.is_success:
        return _object(response)
    if response.status_code >= 500 or response.status_code == 429:
        raise Unreachable(f"the control plane answered {response.status_code}")
    error = _object(response).get("error")
    if not isinstance(error, dict):
        raise Unreachable(f"something else than the control plane answered {response.status_code}")
    kind = Fenced if error.get("code") in ("fenced", "not_claimable", "unknown_job") else Refused
    raise kind(str(error.get("code")), str(error.get("message")), error)


def _object(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        # A proxy's page, say: it is no word of the control plane's.
        raise Unreachable(f"something else than the control plane answered {response.status_code}")
    return answer


class ControlPlane:
    """Calls of one runner.

    Args:
        base_url: of the control plane.
        shard_key: sent with every call.
    """

    def __init__(self, base_url: str, shard_key: str) -> None:
        # Nothing of the environment (proxies, certificates, netrc) may redirect or add to these calls.
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

    async def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        try:
            response = await self._client.post(path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"the control plane cannot be reached: {error or type(error).__name__}") from error
        return check_answer(response)

    async def claim(self, job_id: str, request: ClaimRequest) -> ClaimAnswer:
        """Claim an attempt.

        Raises:
            Fenced: it cannot be claimed; nothing ran.
            Refused: such as a wrong shard key.
            Unreachable: try again, with the same claim token.
        """
        return cast(ClaimAnswer, await self._post(f"/shard/v1/jobs/{job_id}/claim", request))

    async def events(self, job_id: str, claim_token: str, request: EventsRequest) -> LeaseAnswer:
        """Post a batch, which may be empty, and renew the lease. Raises as ``claim`` does."""
        headers = {CLAIM_HEADER: claim_token}
        return cast(LeaseAnswer, await self._post(f"/shard/v1/jobs/{job_id}/events", request, headers))

    async def finish(self, job_id: str, claim_token: str, request: FinishRequest) -> LeaseAnswer:
        """End the attempt; idempotent. Raises as ``claim`` does."""
        headers = {CLAIM_HEADER: claim_token}
        return cast(LeaseAnswer, await self._post(f"/shard/v1/jobs/{job_id}/finish", request, headers))


class ControlPlaneOfWorker:
    """Calls of the shard's Celery worker, which is not asynchronous."""

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
            Refused: such as a wrong shard key.
            Unreachable: try again later.
        """
        try:
            response = self._client.post("/shard/v1/heartbeat", json=report)
        except httpx.HTTPError as error:
            raise Unreachable(f"the control plane cannot be reached: {error or type(error).__name__}") from error
        return cast(HeartbeatAnswer, check_answer(response))

    def close(self) -> None:
        self._client.close()
