"""Work of one attempt between claim and report: workspace, agent and push."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from myctobot.contract.jobs import EventKind, Phase
from myctobot.contract.names import attempt_name
from myctobot.contract.runner import CancelProof, ClaimAnswer
from myctobot.contract.work import WIP_BRANCH, OnFailure, WorkManifest
from workers.config import ShardConfig
from workers.errors import JobError
from workers.executors import create_executor, direct_addresses, read_only_paths
from workers.executors.base import AgentReport, AgentTask
from workers.git.cleanup import remove_tree
from workers.git.notes import Notes
from workers.git.object_cache import ObjectCache
from workers.git.workspace import Collected, Prepared, Pushed, RepoSpec, Workspace
from workers.runner.attempt_calls import AttemptCalls
from workers.runner.disk_watchdog import DiskWatchdog, read_free_space, shortage
from workers.runner.events import EventStream
from workers.runner.model_wait import ModelWait
from workers.runner.output_watchdog import OutputWatchdog
from workers.runner.pausable_clock import PausableClock
from workers.runner.prompt import build_instructions, build_prompt, commit_message
from workers.runner.reserved_room import ReservedRoom
from workers.runner.work_keeper import WorkKeeper
from workers.sandbox.agent_users import AgentUser
from workers.sandbox.disk_image import DiskImage
from workers.sandbox.isolation import load_for_job
from workers.sandbox.sandbox import Sandbox, SandboxConfig

# A job fails before it starts when the workspace's disk has less free space than this.
_MIN_FREE_MB = 64


class Execution:
    """Part of an attempt that uses the shard's disk and starts processes.

    Args:
        config: configuration of the shard.
        answer: answer to the claim.
        slot: number of the shard's slot; its user runs the agent, unless another shard of the host uses that.
        calls: calls of the attempt besides its events.
    """

    def __init__(self, config: ShardConfig, answer: ClaimAnswer, slot: int, calls: AttemptCalls) -> None:
        self._config, self._answer, self._slot, self._calls = config, answer, slot, calls
        self._job_dir = config.workspace_path / attempt_name(answer["job_id"], answer["attempt"])
        self._sandbox: Sandbox | None = None
        self._repository: Workspace | None = None
        self._keeper: WorkKeeper | None = None
        self._user: AgentUser | None = None
        self._image: DiskImage | None = None
        self.clock = PausableClock()
        self.model_wait = ModelWait()
        self._thawed = asyncio.Event()
        self._thawed.set()

    async def run(self, events: EventStream) -> dict[str, Any]:
        """Do the work and return its result.

        Raises:
            JobError: the work failed; the message says why.
            AttemptFenced: the attempt is no longer the job's current one.
            OSError: the shard itself failed, such as with a full disk.
        """
        attempt = self._answer["attempt"]
        # All attempts share one log. From the second attempt on, the log shows where each begins.
        await events.enter(Phase.PREPARING, f"attempt {attempt}" if attempt > 1 else "")
        if not (kept := self._answer.get("work")):
            self._check_gateway()
        self._sandbox = self._prepare_sandbox()
        if not self._sandbox.isolated:
            await events.emit(EventKind.WARNING, {"code": "not_isolated", "message": self._sandbox.describe()})
        workspace = self._repository = self._workspace(self._sandbox, events)
        # The image is mounted on the job's folder, and the shard's disk is around it.
        disk = DiskWatchdog(self._config.workspace_path, self._config.min_free_mb, self._image)
        if workspace is not None and kept:
            return await disk.watch(self._push_kept(workspace, events, kept), self._sandbox.kill_all)
        report = await disk.watch(self._clone_and_run(workspace, self._sandbox, events), self._sandbox.kill_all)
        # Processes that the agent left running must not write into the files that are collected now.
        await self._sandbox.kill_all()
        # An agent may end so soon after a bound that the watchdog did not see it.
        disk.check()
        if (failure := report.failure) is not None:
            raise JobError(failure.code, failure.message, retryable=failure.retryable)
        collected: Collected | None = None
        if workspace is not None:
            collected = await disk.watch(self._push(workspace, events, report), self._sandbox.kill_all)
        return self._result(report, collected, workspace)

    def _check_gateway(self) -> None:
        """Check that the job's token does not travel in clear text.

        Raises:
            JobError: it would. Another shard may be on the gateway's own machine, so another attempt may succeed.
        """
        if problem := self._config.links.problem("GATEWAY_URL", self._answer["gateway"]["url"]):
            raise JobError("insecure_link", f"The shard refuses the gateway's address: {problem}", retryable=True)

    async def _clone_and_run(self, workspace: Workspace | None, sandbox: Sandbox, events: EventStream) -> AgentReport:
        prepared: Prepared | None = None
        if workspace is not None:
            await events.enter(Phase.CLONING)
            prepared = await workspace.prepare()
            max_mb = self._answer.get("work_max_mb", 0)
            directory = self._job_dir / "git"
            room = ReservedRoom(directory, 2 * max_mb * 2**20) if self._image is not None else None
            self._keeper = WorkKeeper(workspace, self._calls, events, directory, max_mb, room)
        await events.enter(Phase.AGENT)
        # Freezing stops only running processes, so wait before the agent starts.
        await self._thawed.wait()
        return await self._run_agent(sandbox, events, prepared)

    def _prepare_sandbox(self) -> Sandbox:
        config = self._config
        config.workspace_path.mkdir(mode=0o711, parents=True, exist_ok=True)
        free = read_free_space(config.workspace_path)
        if config.git.object_cache is not None and shortage(free, config.min_free_mb):
            # A job is worth more than a faster clone.
            ObjectCache(config.git.object_cache, 0).clear()
            free = read_free_space(config.workspace_path)
        free_mb = free.bytes // 2**20
        if problem := shortage(free, config.min_free_mb):
            message = f"The shard's disk has {problem}; ask an operator to free space."
            raise JobError("disk_full", message, retryable=True)
        if free_mb < _MIN_FREE_MB:
            raise JobError(
                "disk_full",
                f"The shard's disk has {free_mb} MB left, but a job needs at least {_MIN_FREE_MB} MB; "
                "ask an operator to free space.",
                retryable=True,
            )
        # The agent's own directory is inside, so other users may pass through this one but not list it.
        self._job_dir.mkdir(mode=0o711)
        isolation = load_for_job(config.run_path)
        if isolation.disk_images:
            self._image = DiskImage(self._job_dir, config.limits)
        self._user = AgentUser.reserve(config.first_agent_uid, self._slot)
        sandbox = SandboxConfig(
            limits=config.limits,
            agent_uid=self._user.number,
            read_only=read_only_paths(config, self._answer["capabilities"]),
            own_network=config.own_network,
            proxy_url=config.agent_proxy_url,
            addresses=direct_addresses(config, self._answer["capabilities"]),
        )
        return Sandbox(isolation.apply(sandbox), self._job_dir)

    def _workspace(self, sandbox: Sandbox, events: EventStream) -> Workspace | None:
        spec = repo_spec(self._answer)
        return Workspace(spec, sandbox, self._job_dir, self._config.git, events.emit) if spec is not None else None

    async def _run_agent(self, sandbox: Sandbox, events: EventStream, prepared: Prepared | None) -> AgentReport:
        answer = self._answer
        executor = create_executor(self._config)
        notes = prepared.notes if prepared else Notes(None, "", ())
        task = AgentTask(
            prompt=build_prompt(answer["task"]),
            instructions=build_instructions(answer["task"], notes.text, notes.source),
            max_turns=answer["max_turns"],
            capabilities=tuple(answer["capabilities"]),
            gateway_url=answer["gateway"]["url"],
            gateway_token=answer["gateway"]["token"],
            # A job that only waits must not end as one that took too long.
            model_wait_s=min(AgentTask.model_wait_s, answer["timeout_s"] / 2),
        )
        watchdog = OutputWatchdog(self.clock, events.emit, answer.get("no_output_timeout_s"))
        emit = self.model_wait.observe(watchdog.emit)
        return await watchdog.watch(executor.run(task, sandbox, emit, lambda pid: None), sandbox.kill_all)

    async def _push(self, workspace: Workspace, events: EventStream, report: AgentReport) -> Collected | None:
        await events.enter(Phase.PUSHING)
        await workspace.commit_leftovers(self._commit_message)
        collected = await workspace.collect()
        if self._keeper is not None:
            result = self._result(report, collected, workspace)
            await self._keeper.keep(result, ready=collected is not None)
        if collected is not None:
            await self._confirm_and_push(workspace, events)
        return collected

    async def _push_kept(self, workspace: Workspace, events: EventStream, kept: WorkManifest) -> dict[str, Any]:
        """Push the work of an earlier attempt instead of running the agent again, and return the result."""
        await events.enter(Phase.CLONING)
        bundle = self._job_dir / "kept.bundle"
        await self._calls.fetch_work(kept, bundle)
        collected = await workspace.restore(kept, bundle)
        await events.enter(Phase.PUSHING)
        await self._confirm_and_push(workspace, events)
        return {**kept["result"], **self._pushed(collected)}

    async def _confirm_and_push(self, workspace: Workspace, events: EventStream) -> None:
        async def authorize() -> str | None:
            await self._confirm(events)
            return await self._calls.read_token()

        await self._confirm(events)
        await workspace.push(authorize)

    @property
    def _commit_message(self) -> str:
        return commit_message(self._answer["task"], self._answer["job_id"])

    async def keep_work(self, events: EventStream, timeout_s: float) -> str:
        """Keep what the agent did in an attempt that does not end well; its processes are dead.

        Args:
            timeout_s: seconds after which the rest is given up.

        Returns:
            A sentence for the job's error, or an empty text.

        Raises:
            AttemptFenced: the attempt is no longer the job's current one.
        """
        if self._keeper is None:
            return ""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._keeper.salvage(self._commit_message)
        except TimeoutError:
            problem = f"it took longer than {timeout_s:g} s"
        except (JobError, OSError) as error:
            problem = str(error).rstrip(".")
        await events.emit(
            EventKind.WARNING, {"code": "work_not_kept", "message": f"The agent's work could not be kept: {problem}."}
        )
        return "The agent's work could not be kept; the log says why."

    @staticmethod
    async def _confirm(events: EventStream) -> None:
        """Confirm the attempt right before a push, because a runner that was cut off must not push."""
        await events.confirm()
        if events.cancel_requested.is_set():
            # The runner will cancel this task. Nothing more may happen until then.
            await asyncio.Event().wait()

    async def push_wip(self, events: EventStream, timeout_s: float, *, retryable: bool) -> Pushed | None:
        """Push the work of an attempt that did not end well to a branch of its own, if the job asks for that.

        Args:
            timeout_s: seconds after which the push is given up.
            retryable: whether another attempt may follow; it pushes finished work to the job's branch.

        Returns:
            The branch and the commit, or None; a warning says why nothing was pushed.

        Raises:
            AttemptFenced: the attempt is no longer the job's current one.
        """
        workspace, answer = self._repository, self._answer
        if answer.get("on_failure") != OnFailure.PUSH_WIP or workspace is None or not workspace.has_work:
            return None
        if retryable and (self._keeper is None or self._keeper.is_ready):
            return None
        branch = WIP_BRANCH.format(job_id=answer["job_id"], attempt=answer["attempt"])
        try:
            async with asyncio.timeout(timeout_s):
                await events.confirm()
                return None if events.cancel_requested.is_set() else await workspace.push_wip(branch)
        except TimeoutError:
            problem = f"it took longer than {timeout_s:g} s."
        except JobError as error:
            problem = str(error)
        message = f"The unfinished work could not be pushed to {branch}: {problem}"
        await events.emit(EventKind.WARNING, {"code": "wip_not_pushed", "message": message})
        return None

    def _result(self, report: AgentReport, collected: Collected | None, workspace: Workspace | None) -> dict[str, Any]:
        usage = {
            "turns": report.turns,
            "input_tokens": report.input_tokens,
            "output_tokens": report.output_tokens,
            "cost_usd": report.cost_usd,
        }
        result: dict[str, Any] = {"summary": report.summary, "usage": usage}
        if workspace is None:
            return result
        if collected is None:
            return {**result, "branch": None, "note": f"{workspace.note}, so no branch was pushed."}
        return {**result, **self._pushed(collected)}

    def _pushed(self, collected: Collected) -> dict[str, Any]:
        return {
            "branch": self._answer["task"]["branch"],
            "head": collected.head_sha,
            "commits": collected.commits,
            "files": collected.files,
            "insertions": collected.insertions,
            "deletions": collected.deletions,
        }

    async def kill(self) -> CancelProof:
        """Kill every process of the job and return the proof."""
        if self._sandbox is None:
            return CancelProof(processes_killed=0, processes_left=0, checked_at=datetime.now(UTC).isoformat())
        return await self._sandbox.kill_all()

    async def freeze(self) -> None:
        """Stop the agent where it is, because a silent control plane may give the job to another shard."""
        self.clock.pause()
        self._thawed.clear()
        if self._sandbox is None:
            return
        try:
            await self._sandbox.freeze()
        except JobError:
            # Kill an agent that cannot be frozen, because it must not act while the runner is cut off.
            await self._sandbox.kill_all()

    async def thaw(self) -> None:
        """Let the agent continue after the attempt was confirmed."""
        self.clock.resume()
        self._thawed.set()
        if self._sandbox is not None:
            await self._sandbox.thaw()

    async def close(self) -> None:
        """Remove every process, control group and file of the attempt."""
        if self._repository is not None:
            await self._repository.close()
        if self._sandbox is not None:
            await self._sandbox.kill_all()
            await self._sandbox.close()
        if self._image is not None:
            self._image.close()
        remove_tree(self._job_dir)
        # The next job with this user must find no process and no file of this one.
        if self._user is not None:
            self._user.release()


def repo_spec(answer: ClaimAnswer) -> RepoSpec | None:
    """Return the repository of a claimed job and the rights of its push, or None for a job without a repository."""
    task = answer["task"]
    if not task.get("repo_url"):
        return None
    # A control plane that sends no policy allows nothing.
    policy: Mapping[str, object] = answer.get("push_policy") or {}
    return RepoSpec(
        url=task["repo_url"],
        base_branch=task.get("base_branch"),
        branch=task["branch"],
        token=answer["secrets"].get("repo_token"),
        allow_ci_files=policy.get("allow_ci_files") is True,
        allow_default_branch=policy.get("allow_default_branch") is True,
        tenant=answer.get("object_scope"),
    )
