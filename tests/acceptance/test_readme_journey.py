"""Commands of docs/first-job.md, run in a shell next to a stack that runs as ``make up`` starts it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from myctobot.contract.jobs import JobStatus
from myctobot.stack.plan import CHECKOUT
from tests.acceptance.client import Client
from tests.fixtures.repos import branches, git
from tests.stacks import RunningStack, bare_environment, running_stack

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

TIMEOUT_S = 240
STEPS = ["prepare", "submit", "follow", "resume", "read", "cancel", "retry", "mistake"]
MARK = "=== of the journey: "
BLOCK = re.compile(r"^<!-- journey: (\w+) -->\n```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> dict[str, str]:
    return dict(BLOCK.findall((CHECKOUT / "docs" / "first-job.md").read_text()))


def as_script(found: dict[str, str]) -> str:
    """Return one script of all blocks, as a user would paste them, with a line before the output of each block."""
    variables = f'echo "{MARK}$KEY $REPO $JOB $OTHER $AGAIN"\n'
    return "".join(f"echo '{MARK}{name}'\n{text}" for name, text in found.items()) + variables


class Journey:
    """Output of each block, and the final values of the shell variables."""

    def __init__(self, stack: RunningStack, output: str) -> None:
        self.stack = stack
        parts = re.split(rf"^{MARK}(.*)\n", output, flags=re.MULTILINE)[1:]
        self.outputs = dict(zip(parts[::2], parts[1::2], strict=True))
        variables: list[str] = parts[-2].split()
        self.key, self.repo, self.job, self.other, self.again = variables

    @property
    def remote(self) -> Path:
        return Path(self.repo.removeprefix("file://"))

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = self.outputs[name].splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]

    def read(self, job_id: str) -> dict[str, Any]:
        with Client(self.stack) as client:
            return client.job(job_id)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journey]:
    home = tmp_path_factory.mktemp("journey") / "home"
    # The page starts the stack with this variable.
    with running_stack(home, environ={"REPO_FILE_ROOTS": str(home / "example")}) as stack:
        environ = bare_environment(home, {"API": f"{stack.web_url}/api/v1"})
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", as_script(blocks())],
            cwd=CHECKOUT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield Journey(stack, done.stdout)


def test_the_page_has_every_step_in_order() -> None:
    assert list(blocks()) == STEPS


def test_a_new_api_key_is_created(journey: Journey) -> None:
    assert journey.key.startswith("mctb_")
    assert journey.key != journey.stack.api_key


def test_the_submit_returns_the_job(journey: Journey) -> None:
    assert journey.outputs["submit"].strip() == journey.job
    assert journey.read(journey.job)["status"] == JobStatus.COMPLETED


def test_the_stream_shows_every_event_once_and_the_end(journey: Journey) -> None:
    *events, end = journey.events("follow")
    assert [event["seq"] for event in events] == list(range(1, end["data"]["count"] + 1))
    assert end["data"]["status"] == JobStatus.COMPLETED
    assert {"agent.message", "tool.call", "tool.result", "git.pushed"} <= {event["kind"] for event in events}


def test_a_resumed_stream_continues_after_the_given_number(journey: Journey) -> None:
    *events, end = journey.events("resume")
    assert [event["seq"] for event in events] == list(range(31, end["data"]["count"] + 1))


def test_the_result_names_the_branch_with_the_fix(journey: Journey) -> None:
    text, _, shown = journey.outputs["read"].partition("\ncommit ")
    result = json.loads(text)["result"]
    assert result["branch"] == "fix/average"
    assert shown.startswith(result["head"])
    assert "+    return sum(values) / len(values)" in shown
    assert (
        git(journey.remote, "show", "-s", "--format=%s", "fix/average")
        == "PROJ-123: Fix the failing test of average()."
    )


def test_the_cancelled_job_pushes_no_branch(journey: Journey) -> None:
    assert journey.outputs["cancel"].startswith("20")
    assert journey.events("cancel")[-1]["data"]["status"] == JobStatus.CANCELLED
    assert journey.read(journey.other)["status"] == JobStatus.CANCELLED
    assert f"myctobot/{journey.other}" not in branches(journey.remote)


def test_the_retry_is_a_new_job_that_completes(journey: Journey) -> None:
    assert journey.events("retry")[-1]["data"]["status"] == JobStatus.COMPLETED
    again = journey.read(journey.again)
    assert again["retry_of"] == journey.other
    assert branches(journey.remote)[f"myctobot/{journey.again}"] == again["result"]["head"]


def test_an_invalid_request_is_explained(journey: Journey) -> None:
    error = json.loads(journey.outputs["mistake"])["error"]
    assert error["code"] == "invalid_request"
    assert "task.repo_url" in error["fields"]


def test_the_log_of_the_stack_has_no_warning_of_python(journey: Journey) -> None:
    page = httpx.get(f"{journey.stack.web_url}/login/", timeout=5)
    style = page.text.split('<link rel="stylesheet" href="')[1].split('"')[0]
    assert httpx.get(f"{journey.stack.web_url}{style}", timeout=5).status_code == 200
    assert [line for line in journey.stack.output().splitlines() if "Warning: " in line] == []
