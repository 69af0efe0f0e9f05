"""``myctobot`` as a command line program that uses a real stack."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from myctobot.contract.jobs import TERMINAL
from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client, file_url
from tests.fixtures.repos import branches, make_remote

pytestmark = pytest.mark.acceptance

TIMEOUT_S = 90
COMMAND = (sys.executable, "-m", "myctobot.cli")
# No server listens on this port.
NOWHERE = "http://127.0.0.1:9"


class Cli:
    """Command line client with the environment of a user who has configured it."""

    def __init__(self, client: Client, home: Path) -> None:
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "MYCTOBOT_URL": client.stack.web_url,
            "MYCTOBOT_API_KEY": client.stack.api_key,
        }

    def run(self, *argv: str, text: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *argv],
            cwd=CHECKOUT,
            env={**self.environ, **environ},
            input=text,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert self.environ["MYCTOBOT_API_KEY"] not in done.stdout + done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done

    @contextmanager
    def running(self, folder: Path, *argv: str) -> Iterator[Running]:
        with (folder / "stdout").open("wb") as output, (folder / "stderr").open("wb") as notes:
            process = subprocess.Popen([*COMMAND, *argv], cwd=CHECKOUT, env=self.environ, stdout=output, stderr=notes)
        try:
            yield Running(process, folder)
        finally:
            process.kill()
            process.wait()


class Running:
    """Running client, whose output goes to files."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self._folder = folder

    def output_of(self, name: str) -> str:
        return (self._folder / name).read_text()

    def wait_for(self, text: str, name: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while text not in self.output_of(name):
            assert self.process.poll() is None, self.output_of("stderr")
            assert time.monotonic() < deadline, self.output_of("stdout") + self.output_of("stderr")
            time.sleep(0.05)


@pytest.fixture
def cli(client: Client, tmp_path: Path) -> Cli:
    return Cli(client, tmp_path)


def as_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_job_is_started_followed_to_its_end_and_listed(client: Client, cli: Cli, tmp_path: Path) -> None:
    remote = make_remote(tmp_path / "remote.git", {"README.md": "# Example\n"})
    done = cli.run(
        *("run", "--repo", file_url(remote), "--branch", "feature/hello", "--base-branch", "main"),
        *("--issue-key", "PROJ-7", "--prompt-file", "-", "--follow"),
        text="WRITE hello.txt: hello from the agent",
    )
    assert done.returncode == 0, done.stderr
    assert "→ Edit  hello.txt" in done.stdout
    assert "+hello from the agent" in done.stdout
    assert "feature/hello" in branches(remote)
    job_id = done.stderr.split()[0]
    job = client.job(job_id)
    assert f"{job_id} completed: {job['events_count']} events, none missing" in done.stderr
    assert (job["task"]["type"], job["capabilities"]) == ("implement_ticket", ["filesystem", "git"])
    listed = cli.run("jobs", "--status", "completed")
    assert listed.stdout.startswith(f"{job_id}  completed")
    assert "PROJ-7: WRITE hello.txt" in listed.stdout.splitlines()[0]
    assert "pushed feature/hello" in cli.run("show", job_id).stdout


def test_json_output_equals_the_stored_events(client: Client, cli: Cli) -> None:
    done = cli.run("--json", "run", "--prompt", "THINK AND TALK", "--follow")
    assert done.returncode == 0, done.stderr
    *events, end = as_lines(done.stdout)
    job_id = done.stderr.split()[0]
    assert events == client.events(job_id)
    assert end == {"kind": "end", "data": {"count": len(events), "status": "completed"}}
    later = cli.run("follow", job_id, "--after", "2", "--json")
    assert as_lines(later.stdout) == [*events[2:], end]
    assert json.loads(cli.run("show", job_id, "--json").stdout) == client.job(job_id)
    page = json.loads(cli.run("jobs", "--json", "--limit", "1").stdout)
    assert [job["id"] for job in page["results"]] == [job_id]


def test_a_failed_job_exits_with_1_and_the_reason(cli: Cli) -> None:
    done = cli.run("run", "--prompt", "REFUSED MODEL", "--follow")
    assert done.returncode == 1
    assert "This request was refused by the script." in done.stderr


def test_a_cancelled_job_exits_with_3(client: Client, cli: Cli, tmp_path: Path) -> None:
    started = cli.run("run", "--prompt", "SLOW JOB")
    assert started.returncode == 0
    job_id = started.stdout.split()[0]
    with cli.running(tmp_path, "follow", job_id) as follower:
        follower.wait_for("→ Bash  sleep 1", "stdout")
        cancelled = cli.run("cancel", job_id, "--wait")
        assert (cancelled.returncode, cancelled.stdout) == (0, f"{job_id} has ended: cancelled\n")
        assert follower.process.wait(TIMEOUT_S) == 3
    assert cli.run("follow", job_id).returncode == 3
    refused = cli.run("cancel", client.run({"prompt": "THINK AND TALK"})["id"])
    assert refused.returncode == 2
    assert "(job_finished)" in refused.stderr


def test_ctrl_c_stops_the_client_and_not_the_job(client: Client, cli: Cli, tmp_path: Path) -> None:
    with cli.running(tmp_path, "run", "--prompt", "SLOW JOB", "--follow") as follower:
        follower.wait_for("→ Bash  sleep 1", "stdout")
        follower.process.send_signal(signal.SIGINT)
        assert follower.process.wait(10) == 130
        notes = follower.output_of("stderr")
    job_id = notes.split()[0]
    assert f"{job_id} continues" in notes
    again = next(line.split("myctobot ")[1] for line in notes.splitlines() if "myctobot follow" in line)
    job = client.job(job_id)
    assert (job["status"], job["cancel_requested_at"]) == ("running", None)
    cli.run("cancel", job_id, "--wait")
    # The suggested command continues after the last event that the client printed.
    resumed = cli.run(*again.split(), "--json")
    assert resumed.returncode == 3
    assert as_lines(resumed.stdout)[0]["seq"] == int(again.split()[-1]) + 1


def test_the_reason_of_a_waiting_job_is_printed(client: Client, cli: Cli, tmp_path: Path) -> None:
    busy = [client.submit({"prompt": "SLOW JOB"}) for _ in range(2)]
    for job_id in busy:
        client.wait(job_id, lambda job: job["status"] == "running")
    with cli.running(tmp_path, "run", "--prompt", "THINK AND TALK", "--follow") as follower:
        follower.wait_for("is queued", "stderr")
        job_id = follower.output_of("stderr").split()[0]
        reason = client.wait(job_id, lambda job: job["waiting"]["code"] == "class_busy")["waiting"]["reason"]
        follower.wait_for(reason, "stderr")
        assert follower.output_of("stdout") == ""
        for other in busy:
            client.cancel(other)
        assert follower.process.wait(TIMEOUT_S) == 0


def test_a_retry_can_be_followed(client: Client, cli: Cli) -> None:
    job = client.run({"prompt": "THINK AND TALK"})
    done = cli.run("retry", job["id"], "--follow")
    assert done.returncode == 0, done.stderr
    assert client.job(done.stderr.split()[0])["retry_of"] == job["id"]


def test_two_retries_with_one_key_start_one_job(client: Client, cli: Cli) -> None:
    job = client.run({"prompt": "THINK AND TALK"})
    argv = ("retry", job["id"], "--idempotency-key", "from-the-clients-retry")
    first, second = (cli.run(*argv).stdout.split()[0] for _ in range(2))
    assert first == second
    client.wait(first, lambda job: job["status"] in TERMINAL)


def test_an_estimate_starts_no_job(client: Client, cli: Cli) -> None:
    before = cli.run("jobs", "--limit", "1", "--json").stdout
    assert cli.run("estimate").stdout == "It would start at once.\n"
    never = cli.run("estimate", "--capabilities", "git,teleport")
    assert (never.returncode, never.stdout[:20]) == (0, "It could not start. ")
    assert "teleport" in never.stdout
    assert cli.run("jobs", "--limit", "1", "--json").stdout == before


def test_a_delayed_job_shows_its_bounds(client: Client, cli: Cli) -> None:
    day = date.today() + timedelta(days=30)
    bounds = ("--not-before", f"{day}T10:00+02:00", "--queue-timeout-s", "3600", "--retry", "1")
    job_id = cli.run("run", "--prompt", "THINK AND TALK", *bounds, "--concurrency-key", "nightly").stdout.split()[0]
    shown = cli.run("show", job_id).stdout
    client.cancel(job_id)
    for fact in (
        f"The job starts at {day} 08:00:00 UTC at the earliest.",
        f"at most 60 min in the queue, not before {day}T08:00:00Z",
        "no automatic retry",
        "nightly, at most 1 at once",
    ):
        assert fact in shown


def test_two_runs_with_one_key_start_one_job(client: Client, cli: Cli) -> None:
    argv = ("run", "--prompt", "THINK AND TALK", "--idempotency-key", "from-the-clients-test")
    first, second = cli.run(*argv), cli.run(*argv)
    assert first.stdout.split()[0] == second.stdout.split()[0]
    client.wait(first.stdout.split()[0], lambda job: job["status"] in TERMINAL)


@pytest.mark.parametrize(
    ("argv", "environ", "code", "named"),
    [
        (["jobs"], {"MYCTOBOT_API_KEY": "mctb_nobodys_key"}, 2, "The key comes from: MYCTOBOT_API_KEY."),
        (["follow", "job_nobodys"], {"MYCTOBOT_API_KEY": "mctb_nobodys_key"}, 2, "(authentication_failed)"),
        (["jobs"], {"MYCTOBOT_API_KEY": ""}, 2, "There is no API key."),
        (["jobs"], {"MYCTOBOT_URL": "somewhere"}, 2, "MYCTOBOT_URL"),
        (["jobs"], {"MYCTOBOT_URL": NOWHERE}, 4, f"{NOWHERE} cannot be reached"),
        (["show", "job_nobodys"], {}, 2, "(unknown_job)"),
        (["follow", "job_nobodys"], {}, 2, "(unknown_job)"),
        (["run", "--prompt", "x", "--capability", "teleport"], {}, 2, "--capability: "),
        (["run", "--prompt", "x", "--repo", "https://h/r", "--branch", "a..b"], {}, 2, "--branch: "),
        (["run", "--prompt", "x", "--retry", "11"], {}, 2, "--retry: "),
        (["run", "--prompt", "x", "--queue-timeout-s", "9999999"], {}, 2, "--queue-timeout-s: "),
        (["run", "--prompt", "x", "--no-output-timeout-s", "1"], {}, 2, "--no-output-timeout-s: "),
        (["run", "--prompt", "x", "--not-before", "2999-01-01T00:00Z"], {}, 2, "--not-before: "),
        (["run", "--prompt", "x", "--concurrency-key", "k" * 301], {}, 2, "--concurrency-key: "),
        (["run", "--prompt", "x", "--concurrency-key", "k", "--concurrency-limit", "1001"], {}, 2, "-limit: "),
        (["run", "--prompt", "x", "--anthropic-key-secret", "missing"], {}, 2, "missing"),
        (["run"], {}, 2, "--prompt"),
    ],
)
def test_an_error_is_printed_with_its_code(
    cli: Cli, argv: list[str], environ: dict[str, str], code: int, named: str
) -> None:
    done = cli.run(*argv, **environ)
    assert (done.returncode, done.stdout) == (code, "")
    assert named in done.stderr


def test_a_configuration_file_replaces_the_variables(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / ".config" / "myctobot" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'url = "{cli.environ["MYCTOBOT_URL"]}"\napi_key = "{cli.environ["MYCTOBOT_API_KEY"]}"\n')
    unset = {"MYCTOBOT_URL": "", "MYCTOBOT_API_KEY": ""}
    path.chmod(0o644)
    refused = cli.run("jobs", **unset)
    assert refused.returncode == 2
    assert f"chmod 600 {path}" in refused.stderr
    path.chmod(0o600)
    assert cli.run("jobs", **unset).returncode == 0


def test_output_on_a_terminal_is_coloured(client: Client, cli: Cli) -> None:
    job_id = client.run({"prompt": "THINK AND TALK"})["id"]
    leader, follower = pty.openpty()
    with open(leader, "rb", buffering=0) as screen:  # noqa: PTH123  # a descriptor is not a path
        process = subprocess.Popen(
            [*COMMAND, "follow", job_id], cwd=CHECKOUT, env={**cli.environ, "TERM": "xterm"}, stdout=follower
        )
        os.close(follower)
        shown = b"".join(_read_terminal(screen.fileno()))
    assert process.wait(TIMEOUT_S) == 0
    assert b"\x1b[36m" in shown


def _read_terminal(descriptor: int) -> Iterator[bytes]:
    # Linux reports an error when the other side closes the terminal.
    try:
        while piece := os.read(descriptor, 65536):
            yield piece
    except OSError:
        return


def test_a_closed_output_ends_the_client_without_a_message(client: Client, cli: Cli) -> None:
    job_id = client.run({"prompt": "THINK AND TALK"})["id"]
    process = subprocess.Popen(
        [*COMMAND, "--json", "follow", job_id],
        cwd=CHECKOUT,
        env=cli.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(TIMEOUT_S) == 141
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_the_environment_installs_the_command(cli: Cli, tmp_path: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("myctobot"), "jobs", "--limit", "1"],
        cwd=tmp_path,
        env=cli.environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
