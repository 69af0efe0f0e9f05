"""Client of the REST API; it repeats calls after connection errors, which is safe for all of them."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
from httpx_sse import EventSource

from myctobot.cli import __version__
from myctobot.cli.config import Config
from myctobot.cli.error_text import is_queue_full, refusal_error
from myctobot.cli.errors import RequestRefused, ServerUnreachable

CALL_TIMEOUT_S: Final = 15
# The server writes a comment at least every 15 s, so a connection with a longer silence is dead.
SILENCE_S: Final = 40
_STREAM_TIMEOUT: Final = httpx.Timeout(10, read=SILENCE_S)
# With their pauses, these tries take about eight seconds. Commands that wait anyway try for about half a minute.
TRIES: Final = 5
PATIENT_TRIES: Final = 9
_FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
MAX_PAGE: Final = 200

Notify = Callable[[str], None]


class Api:
    """Client of ``/api/v1``.

    Args:
        config: address of the server and API key.
        notify: called with a sentence before every further try.
        transport: replacement of the network in tests.
        pause: called with the seconds to wait before another try.
    """

    def __init__(
        self,
        config: Config,
        notify: Notify,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._notify = notify
        self._pause = pause
        self._client = httpx.Client(
            base_url=f"{config.url}/api/v1",
            headers={"Authorization": f"Bearer {config.api_key}", "User-Agent": f"myctobot-cli/{__version__}"},
            timeout=CALL_TIMEOUT_S,
            transport=transport,
            # A proxy from the environment cannot reach this machine's loopback address.
            trust_env=not _is_this_machine(config.url),
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def submit(self, request: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Start a job; the key makes a repeated call start no second one."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._call("POST", "/jobs", json=dict(request), headers=headers)

    def read(self, job_id: str, tries: int = TRIES) -> dict[str, Any]:
        return self._call("GET", f"/jobs/{job_id}", tries=tries)

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._call("POST", f"/jobs/{job_id}/cancel")

    def retry(self, job_id: str, secrets: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Start a new job with the request of an ended one; the key makes a repeated call start no second one."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._call("POST", f"/jobs/{job_id}/retry", json=dict(secrets), headers=headers)

    def estimate(self, needs: Mapping[str, Any]) -> dict[str, Any]:
        """Return why and how long a job would wait, without starting it."""
        return self._call("POST", "/jobs/estimate", json=dict(needs))

    def jobs(self, limit: int, status: str | None = None) -> dict[str, Any]:
        """Return up to ``limit`` jobs, newest first, in the format of one page of the API."""
        query = {"status": status} if status else {}
        found: list[Any] = []
        while True:
            query["limit"] = str(min(limit - len(found), MAX_PAGE))
            page = self._call("GET", "/jobs", params=query)
            found += page["results"]
            if not page["next"] or len(found) >= limit:
                return {"next": page["next"], "previous": None, "results": found}
            # Use only the query of the address, so that the key is never sent to another server.
            query = dict(httpx.QueryParams(urlsplit(page["next"]).query))

    @contextmanager
    def stream(self, job_id: str, after: int) -> Iterator[EventSource]:
        """Open the job's stream after event number ``after``.

        Raises:
            RequestRefused: the server refused; another try would be refused too.
            ServerUnreachable: the server cannot answer now.
            httpx.RequestError: the connection could not be opened, or broke.
        """
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if after:
            headers["Last-Event-ID"] = str(after)
        with self._client.stream("GET", f"/jobs/{job_id}/stream", headers=headers, timeout=_STREAM_TIMEOUT) as answer:
            if not answer.is_success:
                answer.read()
                self._check(answer)
            yield EventSource(answer)

    def _call(self, method: str, path: str, *, tries: int = TRIES, **request: Any) -> dict[str, Any]:
        pause_s = _FIRST_PAUSE_S
        while True:
            tries -= 1
            try:
                return self._request(method, path, **request)
            except (httpx.RequestError, ServerUnreachable) as error:
                problem = error_phrase(error)
                if tries <= 0:
                    text = f"{self._config.url} cannot be reached: {problem}."
                    raise ServerUnreachable(f"{text} The URL comes from: {self._config.url_source}.") from error
            self._notify(f"{self._config.url}: {problem}; trying again in {pause_s:g} s")
            self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _request(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = self._client.request(method, path, **request)
        self._check(answer)
        try:
            found = answer.json()
        except ValueError as error:
            raise self._not_the_api(answer) from error
        if not isinstance(found, dict):
            raise self._not_the_api(answer)
        return found

    def _check(self, answer: httpx.Response) -> None:
        if is_temporary(answer.status_code) and not is_queue_full(answer):
            raise ServerUnreachable(f"the server answered with status {answer.status_code}")
        if answer.is_error:
            raise refusal_error(answer, self._config)
        if answer.is_redirect:
            target = answer.headers.get("location", "another address")
            raise RequestRefused(
                f"{self._config.url} redirects to {target}. The client follows no redirects; use that URL instead."
            )
        if not answer.is_success:
            raise self._not_the_api(answer)

    def _not_the_api(self, answer: httpx.Response) -> RequestRefused:
        return RequestRefused(
            f"The server at {self._config.url} (status {answer.status_code}) is not MyCTOBot's API. "
            f"The URL comes from: {self._config.url_source}."
        )


def is_temporary(status: int) -> bool:
    """Tell whether another try may succeed after a status."""
    return status >= 500 or status in (408, 425, 429)


def error_phrase(error: Exception) -> str:
    """Return an error as a part of a sentence."""
    if isinstance(error, httpx.ReadTimeout):
        return "the server sent nothing for too long"
    if isinstance(error, httpx.TimeoutException):
        return "the server did not answer in time"
    return str(error) or type(error).__name__


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
