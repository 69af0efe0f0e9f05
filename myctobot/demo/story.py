"""The demo's acts, one after the other."""

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
from myctobot.cli.rendering import DETAIL, bounded, patch_lines, render, usage_text
from myctobot.cli.terminal import Line, Style, Terminal
from myctobot.contract.jobs import JobStatus
from myctobot.demo.errors import DemoFailed
from myctobot.demo.job import calling, job_request, wait_started
from myctobot.demo.options import Options
from myctobot.demo.repository import TEST_COMMAND, Sample, TestRun, git, make_sample, run_tests
from myctobot.demo.stack import DemoStack
from myctobot.stack.plan import CHECKOUT

# The stack is on this machine: what does not come back soon does not come back.
RECONNECT_FOR_S: Final = 30.0


def shown(path: Path) -> str:
    """A path as one would type it in the checkout."""
    return os.path.relpath(path, CHECKOUT) if path.is_relative_to(CHECKOUT) else str(path)


class Story:
    """Tells one run.

    Args:
        folder: where repositories and the stack are.
        stack: not started yet; whoever started it stops it.
    """

    def __init__(self, terminal: Terminal, options: Options, folder: Path, stack: DemoStack) -> None:
        self._terminal = terminal
        self._options = options
        self._folder = folder
        self._stack = stack
        self._since = time.monotonic()

    def prepare(self) -> Sample:
        """Make the repository, while the stack starts, and show that its test fails."""
        self._terminal.heading("1. A repository with a failing test")
        sample = make_sample(self._folder)
        self._terminal.say(f"{shown(sample.work)}, pushed to {shown(sample.origin)}")
        self._terminal.say("$ cat calc.py", Style.BOLD)
        self._terminal.show_all(patch_lines((sample.work / "calc.py").read_text()))
        before = run_tests(sample.work)
        self._show_tests(before)
        if before.passed:
            raise DemoFailed("The test was to fail at first, and passed.")
        return sample

    def tell(self, sample: Sample) -> None:
        """Run the job and prove what it did.

        Raises:
            DemoFailed: something went wrong.
        """
        self._terminal.heading("2. The stack")
        access = self._stack.wait_ready()
        self._terminal.say(
            f"PostgreSQL, Redis, web, gateway, control worker, beat and one shard were ready after "
            f"{time.monotonic() - self._since:.1f} s, at {access.url}"
        )
        self._say_who_plays()
        with calling(access, self._say_aside) as api:
            job = self._submit(api, sample)
            self._watch(api, job)
            self._check(api.read(job["id"]), sample)

    def _say_who_plays(self) -> None:
        if self._options.is_scripted:
            self._terminal.say(
                "The agent is the real Claude Code CLI in a sandbox. Its model is played from a file, so this needs no "
                "key and costs nothing. DEMO_UPSTREAM=anthropic uses a real model and your ANTHROPIC_API_KEY.",
                Style.DIM,
            )
        else:
            self._terminal.say(
                "DEMO_UPSTREAM=anthropic: your ANTHROPIC_API_KEY goes along with this one job, sealed, and the "
                "gateway calls the real model with it. This costs money; the agent itself never sees the key.",
                Style.YELLOW,
            )

    def _submit(self, api: Api, sample: Sample) -> dict[str, Any]:
        self._terminal.heading("3. Ask for the work")
        self._terminal.say("POST /api/v1/jobs")
        request = job_request(sample.url, self._options.anthropic_api_key)
        printed = {name: "(your key)" if name == "anthropic_api_key" else value for name, value in request.items()}
        text = json.dumps(printed, indent=2, ensure_ascii=False)
        self._terminal.show_all(Line(line, Style.DIM, 4) for line in text.splitlines())
        job = api.submit(request, secrets.token_urlsafe(18))
        self._terminal.say(f"{job['id']} is {job['status']}", Style.GREEN)
        return job

    def _watch(self, api: Api, job: dict[str, Any]) -> None:
        self._terminal.heading("4. Watch it live")
        self._terminal.say(f"GET /api/v1/jobs/{job['id']}/stream")
        wait_started(api, job["id"], self._say_aside)
        began = datetime.fromisoformat(job["created_at"])
        follower = Follower(api, job["id"], self._say_aside, give_up_after_s=RECONNECT_FOR_S)
        for event in follower.events():
            self._terminal.show_all(render(event, began))
        # The follower has compared it with what the stream's end counts.
        self._terminal.say(f"the end of the stream: {follower.last} events, none missing", Style.DIM)

    def _say_aside(self, sentence: str) -> None:
        self._terminal.show(Line(sentence, Style.DIM, DETAIL))

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
        self._terminal.heading("6. The proof: the test, in a fresh clone of that branch")
        fresh = sample.check_out(branch, self._folder / "checked-out")
        after = run_tests(fresh)
        self._show_tests(after)
        if not after.passed:
            raise DemoFailed(f"The test still fails on the branch {branch}.")
        self._sum_up(job, fresh)

    def _show_tests(self, run: TestRun) -> None:
        self._terminal.say(f"$ python3 {' '.join(TEST_COMMAND)}", Style.BOLD)
        style = Style.DIM if run.passed else Style.RED
        self._terminal.show_all(Line(line, style, 4, wrap=False) for line in bounded(run.output))
        verdict = ("The test passes.", Style.GREEN) if run.passed else ("The test fails.", Style.RED)
        self._terminal.say(*verdict)

    def _sum_up(self, job: dict[str, Any], fresh: Path) -> None:
        times = [datetime.fromisoformat(job[name]) for name in ("created_at", "finished_at")]
        spent = usage_text(job["result"]["usage"])
        free = " by a real model's price list; the scripted one is free" if self._options.is_scripted else ""
        self._terminal.heading("Done")
        seconds = (times[1] - times[0]).total_seconds()
        self._terminal.say(f"Fixed and pushed in {seconds:.1f} s: {spent}{free}.", Style.GREEN)
        steps = {
            "make up": "keeps a stack running; prints URLs, login and API key",
            "http://127.0.0.1:8000/api/docs/": "shows the API then, to be tried in the browser",
            "README.md": "has a job's life as curl commands",
            f"git -C {shown(fresh)} log -p": "shows the agent's commit",
        }
        self._terminal.say("")
        width = max(map(len, steps))
        self._terminal.show_all(Line(what, indent=2, mark=f"{step.ljust(width)}  ") for step, what in steps.items())
