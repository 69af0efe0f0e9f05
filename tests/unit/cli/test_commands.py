"""Output and exit codes of the commands, with a server without a network."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from myctobot.cli.commands import COMMANDS, CommandOutput, read_prompt
from myctobot.cli.errors import CliError, ExitCode, UsageError
from myctobot.cli.options import read_options
from myctobot.cli.terminal import Terminal
from tests.unit.cli.server import JOB_ID, Handler, api_of, end, events, job, stream


class Done:
    """Output of a command, and its exit code or error."""

    def __init__(self, handler: Handler, *argv: str) -> None:
        output, talk = io.StringIO(), io.StringIO()
        console = CommandOutput(output, Terminal(output, {}, None), Terminal(talk, {}, None))
        options = read_options(list(argv))
        self.code: ExitCode | None = None
        self.error: CliError | None = None
        with api_of(handler) as api:
            try:
                self.code = COMMANDS[options.command](api, console, options)
            except CliError as error:
                self.error = error
        self.output, self.talk = output.getvalue(), talk.getvalue()

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.output.splitlines()]


class Server:
    """Server that accepts a job, streams it and returns its end; ``requested`` has the calls."""

    def __init__(self, status: str = "completed", **more: Any) -> None:
        self.status = status
        self.more = more
        self.requested: list[str] = []
        self.streams: Callable[[], httpx.Response] = lambda: stream(events(1, 2, 3), end(3, self.status))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        self.requested.append(f"{request.method} {path}")
        if path.endswith("/stream"):
            return self.streams()
        if request.method == "POST":
            return httpx.Response(201, json=job(status="queued"))
        if path == "/jobs":
            return httpx.Response(200, json={"next": None, "previous": None, "results": [job(), job()]})
        return httpx.Response(200, json=job(status=self.status, **self.more))


ENDS = [("completed", ExitCode.COMPLETED), ("failed", ExitCode.FAILED), ("cancelled", ExitCode.CANCELLED)]


@pytest.mark.parametrize(("status", "code"), ENDS)
@pytest.mark.parametrize(
    "argv", [("run", "--prompt", "Fix it.", "--follow"), ("follow", JOB_ID), ("retry", JOB_ID, "--follow")]
)
def test_the_end_of_a_followed_job_is_the_exit_code(status: str, code: ExitCode, argv: tuple[str, ...]) -> None:
    done = Done(Server(status), *argv)
    assert done.code == code
    assert f"{JOB_ID} {status}: 3 events, none missing" in done.talk


def test_events_go_to_standard_output_and_messages_to_standard_error() -> None:
    done = Done(Server(), "run", "--prompt", "Fix it.", "--follow")
    assert [line.strip() for line in done.output.splitlines()] == ["1", "2", "3"]
    assert f"{JOB_ID} is queued" in done.talk


def test_json_output_is_exactly_the_events_and_the_end() -> None:
    done = Done(Server(), "--json", "follow", JOB_ID)
    assert [line.get("seq") for line in done.lines] == [1, 2, 3, None]
    assert done.lines[0] == {
        "seq": 1, "at": "2030-01-01T12:00:01+00:00", "kind": "log.line", "data": {"source": "git", "text": "1"},
    }  # fmt: skip
    assert done.lines[-1] == {"kind": "end", "data": {"count": 3, "status": "completed"}}


def test_a_run_that_is_not_followed_prints_the_job() -> None:
    server = Server()
    assert Done(server, "run", "--prompt", "Fix it.").output == f"{JOB_ID} is queued\n"
    assert json.loads(Done(server, "run", "--prompt", "Fix it.", "--json").output) == job(status="queued")
    assert server.requested == ["POST /jobs"] * 2


@pytest.mark.parametrize("argv", [("run", "--prompt", "Fix it."), ("retry", JOB_ID)])
def test_a_job_without_an_answer_can_be_found_by_its_key(argv: tuple[str, ...]) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset")

    done = Done(answer, *argv, "--idempotency-key", "one-key")
    assert done.error is not None
    assert done.error.exit_code == ExitCode.UNREACHABLE
    assert "--idempotency-key one-key starts no second job" in str(done.error)


def test_a_failed_job_says_why() -> None:
    error = {"code": "timeout", "message": "The time is over.", "retryable": False}
    assert "The time is over. (timeout)" in Done(Server("failed", error=error), "follow", JOB_ID).talk


def test_an_interrupted_follower_prints_how_to_continue() -> None:
    def interrupted() -> httpx.Response:
        # Ctrl-C interrupts the program while it waits for the next bytes.
        return stream(events(1, 2), breaks=KeyboardInterrupt())  # type: ignore[arg-type]  # no Exception on purpose

    server = Server("running")
    server.streams = interrupted
    done = Done(server, "follow", JOB_ID)
    assert done.code == ExitCode.INTERRUPTED
    assert f"{JOB_ID} continues" in done.talk
    assert f"myctobot follow {JOB_ID} --after 2" in done.talk
    assert f"myctobot cancel {JOB_ID}" in done.talk
    assert not [call for call in server.requested if call.endswith("/cancel")]


def test_a_number_that_no_event_has_yet_is_refused() -> None:
    done = Done(Server(), "follow", JOB_ID, "--after", "4")
    assert isinstance(done.error, UsageError)
    assert "--after: the job has 3 events so far" in str(done.error)


def test_jobs_are_listed_as_text_and_as_json() -> None:
    assert Done(Server(), "jobs").output.count(JOB_ID) == 2
    assert json.loads(Done(Server(), "jobs", "--json").output)["results"] == [job(), job()]


def test_a_job_is_shown_as_text_and_as_json() -> None:
    assert "Fix it." in Done(Server(), "show", JOB_ID).output
    assert json.loads(Done(Server(), "show", JOB_ID, "--json").output) == job()


def test_a_cancel_says_that_it_is_requested_or_that_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("myctobot.cli.commands._POLL_EVERY_S", 0.0)
    server = Server("cancelled")
    requested = Done(server, "cancel", JOB_ID)
    assert (requested.code, requested.output) == (
        ExitCode.COMPLETED,
        f"{JOB_ID} is queued; its cancel is requested\n",
    )
    waited = Done(server, "cancel", JOB_ID, "--wait")
    assert (waited.code, waited.output) == (ExitCode.COMPLETED, f"{JOB_ID} has ended: cancelled\n")


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        (("next", "A slot is free.", 0), "It would start at once."),
        (("class_busy", "All are busy.", 200), "It would start in about 3 min. All are busy."),
        (("no_healthy_shard", "None is well.", None), "It would wait. None is well."),
        (("capability_missing", "None has x.", None), "It could not start. None has x."),
    ],
)
def test_an_estimate_says_when_and_why(waiting: tuple[str, str, int | None], expected: str) -> None:
    requested: list[Any] = []
    found = dict(zip(("code", "reason", "estimated_wait_s"), waiting, strict=True))

    def answer(request: httpx.Request) -> httpx.Response:
        requested.append((request.url.path, json.loads(request.content)))
        return httpx.Response(200, json=found)

    done = Done(answer, "estimate", "--capabilities", "git,playwright", "--priority", "high")
    assert (done.code, done.output) == (ExitCode.COMPLETED, f"{expected}\n")
    assert requested == [("/api/v1/jobs/estimate", {"capabilities": ["git", "playwright"], "priority": "high"})]
    assert json.loads(Done(answer, "estimate", "--json").output) == found


def test_a_retry_may_name_stored_secrets() -> None:
    bodies: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(201, json=job(status="queued"))

    Done(answer, "retry", JOB_ID, "--repo-token-secret", "github")
    assert bodies == [{"repo_token": {"secret": "github"}}]


class Stdin(io.StringIO):
    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.buffer = io.BytesIO(content)  # type: ignore[misc]  # what a real one has


def test_a_prompt_comes_from_a_file_or_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("Grün.\nZwei.")
    assert read_prompt(str(tmp_path / "prompt.txt"), Stdin(b"")) == "Grün.\nZwei."
    assert read_prompt("-", Stdin(b"From here.")) == "From here."


@pytest.mark.parametrize(
    ("content", "named"),
    [(b" \n", "is empty"), (b"\xff", "not text in UTF-8"), (b"a" * 262145, "more than 262144 bytes")],
)
def test_an_invalid_prompt_is_refused(content: bytes, named: str) -> None:
    with pytest.raises(UsageError, match=f"--prompt-file: - .*{named}"):
        read_prompt("-", Stdin(content))


def test_a_missing_prompt_file_is_named() -> None:
    with pytest.raises(UsageError, match="--prompt-file: /nonexistent/prompt cannot be read"):
        read_prompt("/nonexistent/prompt", Stdin(b""))
