"""Commands of the client."""

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
from myctobot.cli.errors import CliError, ExitCode, ServerUnreachable, UsageError
from myctobot.cli.follow import Follower
from myctobot.cli.job_text import STATUS_STYLES, error_text, job_lines, list_lines, result_texts
from myctobot.cli.options import CAPABILITIES
from myctobot.cli.rendering import plural, render
from myctobot.cli.terminal import OutputLine, Style, Terminal
from myctobot.cli.wait_status import WaitMonitor, estimate_sentence
from myctobot.contract.jobs import TERMINAL, EventKind, JobStatus, TaskType
from myctobot.contract.limits import MAX_PROMPT_BYTES

_EXIT_CODES: Final[Mapping[str, ExitCode]] = {
    JobStatus.COMPLETED: ExitCode.COMPLETED,
    JobStatus.FAILED: ExitCode.FAILED,
    JobStatus.CANCELLED: ExitCode.CANCELLED,
}
_POLL_EVERY_S: Final = 1.0


@dataclass(frozen=True)
class CommandOutput:
    """Output streams of a command.

    Attributes:
        output: standard output, for results.
        terminal: standard output, formatted for people.
        messages: standard error, for everything else that a person may want to know.
    """

    output: TextIO
    terminal: Terminal
    messages: Terminal

    def notify(self, sentence: str) -> None:
        self.messages.show(OutputLine(sentence, Style.DIM))

    def document(self, found: Mapping[str, Any]) -> None:
        self.output.write(json.dumps(found, indent=2) + "\n")
        self.output.flush()

    def json_line(self, event: Mapping[str, Any]) -> None:
        self.output.write(json.dumps(event, separators=(",", ":")) + "\n")
        self.output.flush()


def run(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    request = job_request(options, options.prompt or read_prompt(options.prompt_file, sys.stdin))
    return _start_job(api, console, options, lambda key: api.submit(request, key))


def _start_job(
    api: Api, console: CommandOutput, options: argparse.Namespace, submit: Callable[[str], Mapping[str, Any]]
) -> ExitCode:
    """Start a job with an idempotency key, and print that key when there was no answer."""
    key = options.idempotency_key or secrets.token_urlsafe(18)
    hint = f"The job may or may not have started. A new try with --idempotency-key {key} starts no second job."
    try:
        job = submit(key)
    except ServerUnreachable as error:
        raise ServerUnreachable(f"{error} {hint}") from error
    except KeyboardInterrupt:
        console.notify(f"Interrupted before the server answered. {hint}")
        return ExitCode.INTERRUPTED
    return _show_new_job(api, console, options, job)


def job_request(options: argparse.Namespace, prompt: str) -> dict[str, Any]:
    """Return the API's request for the options of ``run``; the server chooses the values that are not given."""
    task = {
        "type": TaskType.IMPLEMENT_TICKET.value if options.issue_key else TaskType.PROMPT.value,
        "prompt": prompt,
        "repo_url": options.repo,
        "branch": options.branch,
        "base_branch": options.base_branch,
        "issue_key": options.issue_key,
        "repo_token": _secret_reference(options.repo_token_secret),
    }
    request = {
        "task": _without_none(task),
        "capabilities": options.capability or list(CAPABILITIES),
        "anthropic_api_key": _secret_reference(options.anthropic_key_secret),
        "context": _without_none({"additional_instructions": options.instructions}) or None,
        "priority": options.priority,
        "timeout_s": options.timeout_s,
        "no_output_timeout_s": options.no_output_timeout_s,
        "queue_timeout_s": options.queue_timeout_s,
        "not_before": options.not_before,
        "retry": _without_none({"max_attempts": options.retry, "on": options.retry_on}) or None,
        "concurrency": _concurrency(options),
        "max_turns": options.max_turns,
    }
    return _without_none(request)


def _concurrency(options: argparse.Namespace) -> dict[str, Any] | None:
    if options.concurrency_key is None:
        if options.concurrency_limit is not None:
            raise UsageError("--concurrency-limit: needs --concurrency-key.")
        return None
    return _without_none({"key": options.concurrency_key, "limit": options.concurrency_limit})


def _secret_reference(name: str | None) -> dict[str, str] | None:
    return {"secret": name} if name else None


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def read_prompt(name: str, standard_input: TextIO) -> str:
    """Read the prompt from a file, or from standard input for ``-``.

    Raises:
        UsageError: the prompt cannot be read, is not text, is empty or is too large.
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
        raise UsageError(f"--prompt-file: {name} is not text in UTF-8.") from error
    if len(content) > MAX_PROMPT_BYTES:
        raise UsageError(f"--prompt-file: {name} has more than {MAX_PROMPT_BYTES} bytes; shorten the prompt.")
    if not prompt.strip():
        raise UsageError(f"--prompt-file: {name} is empty; write what the agent should do.")
    return prompt


def _show_new_job(api: Api, console: CommandOutput, options: argparse.Namespace, job: Mapping[str, Any]) -> ExitCode:
    if options.follow:
        console.messages.show(OutputLine(f"{job['id']} is {job['status']}", Style.BOLD))
        return _watch(api, console, options, job, after=0)
    if options.json:
        console.document(job)
    else:
        console.terminal.show(OutputLine(f"{job['id']} is {job['status']}"))
        console.notify(f"Watch it: myctobot follow {job['id']}")
    return ExitCode.COMPLETED


def estimate(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    found = api.estimate(
        _without_none({"capabilities": options.capability or list(CAPABILITIES), "priority": options.priority})
    )
    if options.json:
        console.document(found)
    else:
        console.terminal.show(OutputLine(estimate_sentence(found)))
    return ExitCode.COMPLETED


def list_jobs(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    found = api.jobs(options.limit, options.status)
    if options.json:
        console.document(found)
        return ExitCode.COMPLETED
    console.terminal.show_all(list_lines(found["results"], datetime.now(UTC)))
    if not found["results"]:
        nothing = "There are no jobs with this status." if options.status else "There are no jobs yet."
        console.notify(nothing if options.status else f"{nothing} Start one: myctobot run")
    elif found["next"]:
        console.notify(f"There are more jobs than --limit {options.limit}.")
    return ExitCode.COMPLETED


def show(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    job = api.read(options.id)
    if options.json:
        console.document(job)
    else:
        console.terminal.show_all(job_lines(job, datetime.now(UTC)))
    return ExitCode.COMPLETED


def cancel(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    job = api.cancel(options.id)
    try:
        while options.wait and job["status"] not in TERMINAL:
            time.sleep(_POLL_EVERY_S)
            job = api.read(options.id, PATIENT_TRIES)
    except KeyboardInterrupt:
        console.notify(f"Stopped waiting; the cancel continues. See its state: myctobot show {options.id}")
        return ExitCode.INTERRUPTED
    if options.json:
        console.document(job)
    elif job["status"] in TERMINAL:
        console.terminal.show(OutputLine(f"{job['id']} has ended: {job['status']}"))
    else:
        console.terminal.show(OutputLine(f"{job['id']} is {job['status']}; its cancel is requested"))
    return ExitCode.COMPLETED


def retry(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    given = {
        "repo_token": _secret_reference(options.repo_token_secret),
        "anthropic_api_key": _secret_reference(options.anthropic_key_secret),
    }
    return _start_job(api, console, options, lambda key: api.retry(options.id, _without_none(given), key))


def follow(api: Api, console: CommandOutput, options: argparse.Namespace) -> ExitCode:
    try:
        job = api.read(options.id, PATIENT_TRIES)
    except KeyboardInterrupt:
        _print_resume_help(console, options.id, options.after)
        return ExitCode.INTERRUPTED
    if options.after > job["events_count"]:
        raise UsageError(
            f"--after: the job has {plural(job['events_count'], 'event')} so far, and none after {options.after}."
        )
    return _watch(api, console, options, job, after=options.after)


def _watch(
    api: Api, console: CommandOutput, options: argparse.Namespace, job: Mapping[str, Any], *, after: int
) -> ExitCode:
    job_id = str(job["id"])
    follower = Follower(api, job_id, console.notify, after=after, give_up_after_s=options.give_up_after)
    try:
        end = _print_events(api, console, options, job, follower)
    except KeyboardInterrupt:
        _print_resume_help(console, job_id, follower.last)
        return ExitCode.INTERRUPTED
    status = str(end["data"]["status"])
    console.messages.show(
        OutputLine(
            f"{job_id} {status}: {plural(follower.last, 'event')}, none missing", STATUS_STYLES.get(status, Style.PLAIN)
        )
    )
    _print_result(api, console, job_id)
    return _EXIT_CODES[status]


def _print_events(
    api: Api, console: CommandOutput, options: argparse.Namespace, job: Mapping[str, Any], follower: Follower
) -> dict[str, Any]:
    """Print events as they arrive, and return the ``end`` event."""
    began = datetime.fromisoformat(job["created_at"])
    with WaitMonitor(api, job, console.notify) as waiting:
        for event in follower.events():
            waiting.event_received()
            if options.json:
                console.json_line(event)
            if event["kind"] == EventKind.END:
                return event
            if not options.json:
                console.terminal.show_all(render(event, began))
    raise AssertionError("a follower yields the end event or raises an error")


def _print_resume_help(console: CommandOutput, job_id: str, last: int) -> None:
    behind = f" --after {last}" if last else ""
    console.messages.show(OutputLine(""))
    console.messages.show(OutputLine(f"Stopped following. {job_id} continues.", Style.YELLOW))
    console.notify(f"  watch it again:  myctobot follow {job_id}{behind}")
    console.notify(f"  cancel it:       myctobot cancel {job_id}")


def _print_result(api: Api, console: CommandOutput, job_id: str) -> None:
    try:
        job = api.read(job_id)
    except CliError as error:
        # This error is not fatal, because the stream has already given the job's status.
        console.notify(f"The result could not be read: {error}")
        return
    if reason := error_text(job):
        console.messages.show(OutputLine(reason, Style.RED))
    for text in result_texts(job):
        console.notify(text)


COMMANDS: Final[Mapping[str, Callable[[Api, CommandOutput, argparse.Namespace], ExitCode]]] = {
    "run": run,
    "estimate": estimate,
    "jobs": list_jobs,
    "follow": follow,
    "show": show,
    "cancel": cancel,
    "retry": retry,
}
