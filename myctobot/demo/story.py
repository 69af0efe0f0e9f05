"""Steps of the demo, in order."""

from __future__ import annotations

import json
import os
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from myctobot.cli.api import Api
from myctobot.cli.follow import Follower
from myctobot.cli.rendering import DETAIL, head_and_tail, patch_lines, render, usage_text
from myctobot.cli.terminal import OutputLine, Style, Terminal
from myctobot.contract.jobs import JobStatus
from myctobot.demo.errors import DemoFailed
from myctobot.demo.folder import repositories_in
from myctobot.demo.job import demo_api, job_request, wait_started
from myctobot.demo.options import DemoOptions
from myctobot.demo.repository import TEST_COMMAND, Sample, TestResult, git, make_sample, run_tests
from myctobot.demo.stack import DemoStack
from myctobot.stack.plan import CHECKOUT

# The stack is on this machine, so a connection that fails for longer than this will not return.
RECONNECT_FOR_S: Final = 30.0


def display_path(path: Path) -> str:
    """Return a path relative to the checkout where it is inside."""
    return os.path.relpath(path, CHECKOUT) if path.is_relative_to(CHECKOUT) else str(path)


class Story:
    """Story of one run.

    Args:
        terminal: output of the story.
        options: options of the demo.
        folder: folder of the repositories and the stack.
        stack: stack that the caller starts and stops.
    """

    def __init__(self, terminal: Terminal, options: DemoOptions, folder: Path, stack: DemoStack) -> None:
        self._terminal = terminal
        self._options = options
        self._folder = folder
        self._stack = stack
        self._since = time.monotonic()

    def prepare(self) -> Sample:
        """Create the repository while the stack starts, and show that its test fails."""
        self._terminal.heading("1. A repository with a failing test")
        sample = make_sample(repositories_in(self._folder))
        self._terminal.say(f"{display_path(sample.work)}, pushed to {display_path(sample.origin)}")
        self._terminal.say("$ cat calc.py", Style.BOLD)
        self._terminal.show_all(patch_lines((sample.work / "calc.py").read_text()))
        before = run_tests(sample.work)
        self._show_tests(before)
        if before.passed:
            raise DemoFailed("The test should fail at first, but it passed.")
        return sample

    def run_job(self, sample: Sample) -> None:
        """Run the job and test its result.

        Raises:
            DemoFailed: a step failed.
        """
        self._terminal.heading("2. The stack")
        access = self._stack.wait_ready()
        self._terminal.say(
            f"PostgreSQL, Redis, web, gateway, control worker, beat and one shard were ready after "
            f"{time.monotonic() - self._since:.1f} s, at {access.url}"
        )
        self._explain_model()
        with demo_api(access, self._note) as api:
            job = self._submit(api, sample)
            self._watch(api, job)
            self._check(api.read(job["id"]), sample)

    def _explain_model(self) -> None:
        if self._options.is_scripted:
            self._terminal.say(
                "The agent is the real Claude Code CLI in a sandbox. Its model's answers come from a file, so the demo "
                "needs no key and costs nothing. DEMO_UPSTREAM=anthropic uses a real model and your ANTHROPIC_API_KEY.",
                Style.DIM,
            )
        else:
            self._terminal.say(
                "DEMO_UPSTREAM=anthropic: this one job gets your ANTHROPIC_API_KEY, encrypted, and the gateway calls "
                "the real model with it. This costs money. The agent itself never sees the key.",
                Style.YELLOW,
            )

    def _submit(self, api: Api, sample: Sample) -> dict[str, Any]:
        self._terminal.heading("3. Ask for the work")
        self._terminal.say("POST /api/v1/jobs")
        request = job_request(sample.url, self._options.anthropic_api_key)
        printed = {name: "(your key)" if name == "anthropic_api_key" else value for name, value in request.items()}
        text = json.dumps(printed, indent=2, ensure_ascii=False)
        self._terminal.show_all(OutputLine(line, Style.DIM, 4) for line in text.splitlines())
        job = api.submit(request, secrets.token_urlsafe(18))
        self._terminal.say(f"{job['id']} is {job['status']}", Style.GREEN)
        return job

    def _watch(self, api: Api, job: dict[str, Any]) -> None:
        self._terminal.heading("4. Watch it live")
        self._terminal.say(f"GET /api/v1/jobs/{job['id']}/stream")
        wait_started(api, job["id"], self._note)
        began = datetime.fromisoformat(job["created_at"])
        follower = Follower(api, job["id"], self._note, give_up_after_s=RECONNECT_FOR_S)
        for event in follower.events():
            self._terminal.show_all(render(event, began))
        # The follower has compared this number with the count in the end event.
        self._terminal.say(f"The stream has ended: {follower.last} events, none missing.", Style.DIM)

    def _note(self, sentence: str) -> None:
        self._terminal.show(OutputLine(sentence, Style.DIM, DETAIL))

    def _check(self, job: dict[str, Any], sample: Sample) -> None:
        if job["status"] != JobStatus.COMPLETED:
            error = job["error"] or {"code": "unknown", "message": "it gave no reason"}
            raise DemoFailed(f"The job {job['status']}: {error['message']} ({error['code']})")
        branch = job["result"]["branch"]
        if branch is None:
            raise DemoFailed(f"The job completed without a branch: {job['result'].get('note', '')}")
        self._terminal.heading("5. What was pushed")
        self._terminal.say(f"$ git show {branch}", Style.BOLD)
        self._terminal.show_all(patch_lines(git(sample.origin, "show", "--stat", "--patch", "--format=medium", branch)))
        self._terminal.heading("6. The proof: the test in a new clone of that branch")
        fresh = sample.check_out(branch, self._folder / "checked-out")
        after = run_tests(fresh)
        self._show_tests(after)
        if not after.passed:
            raise DemoFailed(f"The test still fails on the branch {branch}.")
        self._print_summary(job, fresh)

    def _show_tests(self, run: TestResult) -> None:
        self._terminal.say(f"$ python3 {' '.join(TEST_COMMAND)}", Style.BOLD)
        style = Style.DIM if run.passed else Style.RED
        self._terminal.show_all(OutputLine(line, style, 4, wrap=False) for line in head_and_tail(run.output))
        verdict = ("The test passes.", Style.GREEN) if run.passed else ("The test fails.", Style.RED)
        self._terminal.say(*verdict)

    def _print_summary(self, job: dict[str, Any], fresh: Path) -> None:
        times = [datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at")]
        spent = usage_text(job["result"]["usage"])
        free = " at a real model's prices; the scripted model is free" if self._options.is_scripted else ""
        self._terminal.heading("Done")
        seconds = (times[1] - times[0]).total_seconds()
        self._terminal.say(f"Fixed and pushed in {seconds:.1f} s: {spent}{free}.", Style.GREEN)
        steps = {
            "make up": "keeps a stack running and prints its URLs, a login and an API key",
            "http://127.0.0.1:8000/api/docs/": "then documents the API, which you can try in the browser",
            "docs/first-job.md": "goes through the API with curl",
            f"git -C {display_path(fresh)} log -p": "shows the agent's commit",
        }
        self._terminal.say("")
        width = max(map(len, steps))
        self._terminal.show_all(
            OutputLine(what, indent=2, prefix=f"{step.ljust(width)}  ") for step, what in steps.items()
        )
