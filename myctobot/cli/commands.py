"""What each command does."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from myctobot.cli.api import PATIENT_TRIES, Api
from myctobot.cli.errors import CliError, ExitCode, Unreachable, UsageError
from myctobot.cli.follow import Follower
from myctobot.cli.job_text import STATUS_STYLES, error_text, job_lines, list_lines, result_texts
from myctobot.cli.options import CAPABILITIES
from myctobot.cli.rendering import plural, render
from myctobot.cli.terminal import Line, Style, Terminal
from myctobot.cli.wait_status import WaitingWatch, estimate_sentence
from myctobot.contract.jobs import MAX_PROMPT_BYTES, TERMINAL, EventKind, JobStatus, TaskType

_ENDS: Final[Mapping[str, ExitCode]] = {
    JobStatus.COMPLETED: ExitCode.COMPLETED,
    JobStatus.FAILED: ExitCode.FAILED,
    JobStatus.CANCELLED: ExitCode.CANCELLED,
}
_LOOK_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class Console:
    """Where a command prints.

    Attributes:
        output: what was asked for.
        terminal: the same, for people.
        talk: all else that a person may want to know; on standard error.
    """

    output: TextIO
    terminal: Terminal
    talk: Terminal

    def tell(self, sentence: str) -> None:
        self.talk.show(Line(sentence, Style.DIM))

    def document(self, found: Mapping[str, Any]) -> None:
        self.output.write(json.dumps(found, indent=2) + "\n")
        self.output.flush()

    def json_line(self, event: Mapping[str, Any]) -> None:
        self.output.write(json.dumps(event, separators=(",", ":")) + "\n")
        self.output.flush()


def run(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    request = job_request(options, options.prompt or read_prompt(options.prompt_file, sys.stdin))
    return _start(api, console, options, lambda key: api.submit(request, key))


def _start(
    api: Api, console: Console, options: argparse.Namespace, ask: Callable[[str], Mapping[str, Any]]
) -> ExitCode:
    """Ask for a job with a key that makes the call repeatable, and say which when no answer came."""
    key = options.idempotency_key or secrets.token_urlsafe(18)
    again = f"Running it again with --idempotency-key {key} starts no second job."
    try:
        job = ask(key)
    except Unreachable as error:
        raise Unreachable(f"{error} Whether the job was started is not known. {again}") from error
    except KeyboardInterrupt:
        console.tell(f"Interrupted before the server answered. Whether the job was started is not known. {again}")
        return ExitCode.INTERRUPTED
    return _started(api, console, options, job)


def job_request(options: argparse.Namespace, prompt: str) -> dict[str, Any]:
    """The API's request for what the options of ``run`` say; what they leave out is the server's to decide."""
    task = {
        "type": TaskType.IMPLEMENT_TICKET.value if options.issue_key else TaskType.PROMPT.value,
        "prompt": prompt,
        "repo_url": options.repo,
        "branch": options.branch,
        "base_branch": options.base_branch,
        "issue_key": options.issue_key,
        "repo_token": _stored(options.repo_token_secret),
    }
    request = {
        "task": _given(task),
        "capabilities": options.capability or list(CAPABILITIES),
        "anthropic_api_key": _stored(options.anthropic_key_secret),
        "context": _given({"additional_instructions": options.instructions}) or None,
        "priority": options.priority,
        "timeout_s": options.timeout_s,
        "no_output_timeout_s": options.no_output_timeout_s,
        "queue_timeout_s": options.queue_timeout_s,
        "not_before": options.not_before,
        "retry": _given({"max_attempts": options.retry, "on": options.retry_on}) or None,
        "concurrency": _concurrency(options),
        "max_turns": options.max_turns,
    }
    return _given(request)


def _concurrency(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.concurrency_key is None:
        if options.concurrency_limit is not None:
            raise UsageError("--concurrency-limit: means nothing without --concurrency-key.")
        return None
    return _given({"key": options.concurrency_key, "limit": options.concurrency_limit})


def _stored(name: str | None) -> dict[str, str] | None:
    return {"secret": name} if name else None


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def read_prompt(name: str, standard_input: TextIO) -> str:
    """Read the prompt from a file, or from standard input for ``-``.

    Raises:
        UsageError: it cannot be read, is no text, empty or too large.
    """
    try:
        if name == "-":
            content = standard_input.buffer.read(MAX_PROMPT_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                content = file.read(MAX_PROMPT_BYTES + 1)
        prompt = content.decode()
    except OSError as error:
        raise UsageError(f"--prompt-file: {name} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--prompt-file: {name} is no text in UTF-8.") from error
    if len(content) > MAX_PROMPT_BYTES:
        raise UsageError(f"--prompt-file: {name} has more than {MAX_PROMPT_BYTES} bytes, which no prompt may have.")
    if not prompt.strip():
        raise UsageError(f"--prompt-file: {name} is empty; say what the agent is to do.")
    return prompt


def _started(api: Api, console: Console, options: argparse.Namespace, job: Mapping[str, Any]) -> ExitCode:
    if options.follow:
        console.talk.show(Line(f"{job['id']} is {job['status']}", Style.BOLD))
        return _watch(api, console, options, job, after=0)
    if options.json:
        console.document(job)
    else:
        console.terminal.show(Line(f"{job['id']} is {job['status']}"))
        console.tell(f"Watch it: myctobot follow {job['id']}")
    return ExitCode.COMPLETED


def estimate(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    found = api.estimate(
        _given({"capabilities": options.capability or list(CAPABILITIES), "priority": options.priority})
    )
    if options.json:
        console.document(found)
    else:
        console.terminal.show(Line(estimate_sentence(found)))
    return ExitCode.COMPLETED


def list_jobs(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    found = api.jobs(options.limit, options.status)
    if options.json:
        console.document(found)
        return ExitCode.COMPLETED
    console.terminal.show_all(list_lines(found["results"], datetime.now(UTC)))
    if not found["results"]:
        console.tell("There are no such jobs." if options.status else "There are no jobs yet. Start one: myctobot run")
    elif found["next"]:
        console.tell(f"There are more; --limit {options.limit} ends here.")
    return ExitCode.COMPLETED


def show(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    job = api.read(options.id)
    if options.json:
        console.document(job)
    else:
        console.terminal.show_all(job_lines(job, datetime.now(UTC)))
    return ExitCode.COMPLETED


def cancel(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    job = api.cancel(options.id)
    try:
        while options.wait and job["status"] not in TERMINAL:
            time.sleep(_LOOK_EVERY_S)
            job = api.read(options.id, PATIENT_TRIES)
    except KeyboardInterrupt:
        console.tell(f"Stopped waiting; the cancel goes on. Look at it: myctobot show {options.id}")
        return ExitCode.INTERRUPTED
    if options.json:
        console.document(job)
    elif job["status"] in TERMINAL:
        console.terminal.show(Line(f"{job['id']} is over: {job['status']}"))
    else:
        console.terminal.show(Line(f"{job['id']} is {job['status']}, and was asked to stop"))
    return ExitCode.COMPLETED


def retry(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    given = {
        "repo_token": _stored(options.repo_token_secret),
        "anthropic_api_key": _stored(options.anthropic_key_secret),
    }
    return _start(api, console, options, lambda key: api.retry(options.id, _given(given), key))


def follow(api: Api, console: Console, options: argparse.Namespace) -> ExitCode:
    try:
        job = api.read(options.id, PATIENT_TRIES)
    except KeyboardInterrupt:
        _say_how_to_go_on(console, options.id, options.after)
        return ExitCode.INTERRUPTED
    if options.after > job["events_count"]:
        raise UsageError(
            f"--after: the job has {plural(job['events_count'], 'event')} so far, and none behind {options.after}."
        )
    return _watch(api, console, options, job, after=options.after)


def _watch(api: Api, console: Console, options: argparse.Namespace, job: Mapping[str, Any], *, after: int) -> ExitCode:
    job_id = str(job["id"])
    follower = Follower(api, job_id, console.tell, after=after, give_up_after_s=options.give_up_after)
    try:
        end = _print_events(api, console, options, job, follower)
    except KeyboardInterrupt:
        _say_how_to_go_on(console, job_id, follower.last)
        return ExitCode.INTERRUPTED
    status = str(end["data"]["status"])
    console.talk.show(
        Line(
            f"{job_id} {status}: {plural(follower.last, 'event')}, none missing", STATUS_STYLES.get(status, Style.PLAIN)
        )
    )
    _say_what_came_of_it(api, console, job_id)
    return _ENDS[status]


def _print_events(
    api: Api, console: Console, options: argparse.Namespace, job: Mapping[str, Any], follower: Follower
) -> dict[str, Any]:
    """Print events as they come, and return the ``end``."""
    began = datetime.fromisoformat(job["created_at"])
    with WaitingWatch(api, job, console.tell) as waiting:
        for event in follower.events():
            waiting.heard()
            if options.json:
                console.json_line(event)
            if event["kind"] == EventKind.END:
                return event
            if not options.json:
                console.terminal.show_all(render(event, began))
    raise AssertionError("a follower ends with the end, or with an error")


def _say_how_to_go_on(console: Console, job_id: str, last: int) -> None:
    behind = f" --after {last}" if last else ""
    console.talk.show(Line(""))
    console.talk.show(Line(f"Stopped following. {job_id} goes on.", Style.YELLOW))
    console.tell(f"  watch it again:  myctobot follow {job_id}{behind}")
    console.tell(f"  cancel it:       myctobot cancel {job_id}")


def _say_what_came_of_it(api: Api, console: Console, job_id: str) -> None:
    try:
        job = api.read(job_id)
    except CliError as error:
        # The stream has told how it ended, which is what counts.
        console.tell(f"What came of it could not be read: {error}")
        return
    if reason := error_text(job):
        console.talk.show(Line(reason, Style.RED))
    for text in result_texts(job):
        console.tell(text)


COMMANDS: Final[Mapping[str, Callable[[Api, Console, argparse.Namespace], ExitCode]]] = {
    "run": run,
    "estimate": estimate,
    "jobs": list_jobs,
    "follow": follow,
    "show": show,
    "cancel": cancel,
    "retry": retry,
}
