"""Job of the demo, which calls the REST API through the command line client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from myctobot.cli.api import Api
from myctobot.cli.config import Config
from myctobot.cli.errors import CliError
from myctobot.cli.wait_status import waiting_sentence
from myctobot.contract.jobs import JobStatus, TaskType
from myctobot.demo.errors import DemoFailed
from myctobot.demo.stack import StackAccess

BRANCH: Final = "fix/average"
START_TIMEOUT_S: Final = 60
_POLL_S: Final = 0.1


def job_request(repo_url: str, anthropic_api_key: str | None) -> dict[str, Any]:
    """Return the request of the demo's job."""
    task = {
        "type": TaskType.IMPLEMENT_TICKET.value,
        "issue_key": "DEMO-1",
        "prompt": "Fix the failing test of average().",
        "repo_url": repo_url,
        "base_branch": "main",
        "branch": BRANCH,
    }
    request: dict[str, Any] = {"task": task, "capabilities": ["git", "filesystem"], "timeout_s": 600, "max_turns": 30}
    return {**request, "anthropic_api_key": anthropic_api_key} if anthropic_api_key else request


@contextmanager
def demo_api(access: StackAccess, notify: Callable[[str], None]) -> Iterator[Api]:
    """Provide a client of the demo's stack, whose errors become ``DemoFailed``.

    Args:
        access: address and key of the stack.
        notify: called with a sentence before a call is repeated.

    Raises:
        DemoFailed: a call was refused or got no answer.
    """
    source = "the stack that the demo started"
    try:
        with Api(Config(access.url, source, access.api_key, source), notify) as api:
            yield api
    except CliError as error:
        raise DemoFailed(str(error).replace("\n", " ")) from error


def wait_started(api: Api, job_id: str, on_waiting: Callable[[str], None]) -> None:
    """Wait until the job has left the queue.

    Args:
        on_waiting: called with the reason each time it changes.

    Raises:
        DemoFailed: the job is still queued after a minute.
    """
    deadline, last_reason = time.monotonic() + START_TIMEOUT_S, ""
    while (job := api.read(job_id))["status"] == JobStatus.QUEUED:
        if time.monotonic() > deadline:
            raise DemoFailed(f"The job did not start within {START_TIMEOUT_S} s: {job['waiting']['reason']}")
        if (sentence := waiting_sentence(job)) and sentence != last_reason:
            last_reason = sentence
            on_waiting(sentence)
        time.sleep(_POLL_S)
