"""Calls of the REST API; all may be repeated, and are when the connection breaks."""

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
from myctobot.cli.error_text import is_full, refusal
from myctobot.cli.errors import Refused, Unreachable

CALL_TIMEOUT_S: Final = 15
# The server writes a comment at least every 15 s, so a longer silence is a dead connection.
SILENCE_S: Final = 40
_STREAM_TIMEOUT: Final = httpx.Timeout(10, read=SILENCE_S)
# With the pauses between them about eight seconds; about half a minute for whoever has patience.
TRIES: Final = 5
PATIENT_TRIES: Final = 9
_FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
MAX_PAGE: Final = 200

Tell = Callable[[str], None]


class Api:
    """A client of ``/api/v1``.

    Args:
        config: where, and with which key.
        tell: hears of every repeated try, for the person who waits.
        transport: in place of the network, for tests.
        pause: waits so many seconds before another try.
    """

    def __init__(
        self,
        config: Config,
        tell: Tell,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._config = config
        self._tell = tell
        self._pause = pause
        self._client = httpx.Client(
            base_url=f"{config.url}/api/v1",
            headers={"Authorization": f"Bearer {config.api_key}", "User-Agent": f"myctobot-cli/{__version__}"},
            timeout=CALL_TIMEOUT_S,
            transport=transport,
            # A proxy of the caller's cannot know what is on this machine.
            trust_env=not _is_this_machine(config.url),
        )

    def __enter__(self) -> Api:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def submit(self, request: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Start a job; the key makes a repeated call harmless."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._call("POST", "/jobs", json=dict(request), headers=headers)

    def read(self, job_id: str, tries: int = TRIES) -> dict[str, Any]:
        return self._call("GET", f"/jobs/{job_id}", tries=tries)

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._call("POST", f"/jobs/{job_id}/cancel")

    def retry(self, job_id: str, secrets: Mapping[str, Any], idempotency_key: str) -> dict[str, Any]:
        """Start a new job with an ended one's request; the key makes a repeated call harmless."""
        headers = {"Idempotency-Key": idempotency_key}
        return self._call("POST", f"/jobs/{job_id}/retry", json=dict(secrets), headers=headers)

    def estimate(self, needs: Mapping[str, Any]) -> dict[str, Any]:
        """Return why and how long a job would wait; nothing is started."""
        return self._call("POST", "/jobs/estimate", json=dict(needs))

    def jobs(self, limit: int, status: str | None = None) -> dict[str, Any]:
        """Return up to ``limit`` jobs, newest first, in the form of the API's own pages."""
        query = {"status": status} if status else {}
        found: list[Any] = []
        while True:
            query["limit"] = str(min(limit - len(found), MAX_PAGE))
            page = self._call("GET", "/jobs", params=query)
            found += page["results"]
            if not page["next"] or len(found) >= limit:
                return {"next": page["next"], "previous": None, "results": found}
            # Of the address only the query is taken: the key goes to nobody whom an answer names.
            query = dict(httpx.QueryParams(urlsplit(page["next"]).query))

    @contextmanager
    def stream(self, job_id: str, after: int) -> Iterator[EventSource]:
        """Open the job's stream behind number ``after``.

        Raises:
            Refused: it is not for the caller; asking again will not help.
            Unreachable: for now.
            httpx.RequestError: the connection could not be made, or broke.
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
                return self._try(method, path, **request)
            except (httpx.RequestError, Unreachable) as error:
                problem = describe(error)
                if tries <= 0:
                    text = f"{self._config.url} cannot be reached: {problem}."
                    raise Unreachable(f"{text} The URL came from: {self._config.url_source}.") from error
            self._tell(f"{self._config.url}: {problem}; trying again in {pause_s:g} s")
            self._pause(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _try(self, method: str, path: str, **request: Any) -> dict[str, Any]:
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
        if may_pass(answer.status_code) and not is_full(answer):
            raise Unreachable(f"the server answered with status {answer.status_code}")
        if answer.is_error:
            raise refusal(answer, self._config)
        if answer.is_redirect:
            target = answer.headers.get("location", "elsewhere")
            raise Refused(f"{self._config.url} redirects to {target}, which is not followed. Name that server instead.")
        if not answer.is_success:
            raise self._not_the_api(answer)

    def _not_the_api(self, answer: httpx.Response) -> Refused:
        return Refused(
            f"What answers at {self._config.url} (status {answer.status_code}) is not MyCTOBot's API. "
            f"The URL came from: {self._config.url_source}."
        )


def may_pass(status: int) -> bool:
    """Whether a status says that another try may succeed."""
    return status >= 500 or status in (408, 425, 429)


def describe(error: Exception) -> str:
    """An error as a part of a sentence."""
    if isinstance(error, httpx.ReadTimeout):
        return "the server fell silent"
    if isinstance(error, httpx.TimeoutException):
        return "there was no answer in time"
    return str(error) or type(error).__name__


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
