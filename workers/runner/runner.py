"""Runner of one attempt: it claims, prepares, runs the agent, pushes, reports and ends.

The worker starts this process before there is a job. It imports everything and then waits for one line on its standard
input, so that a job does not wait for imports. It has its own session, so it outlives the worker.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from myctobot.contract.jobs import EventKind, Outcome, Phase
from myctobot.contract.limits import CLAIM_DEADLINE_S
from myctobot.contract.redaction import Redactor
from myctobot.contract.runner import (
    CancelProof,
    ClaimAnswer,
    ClaimRequest,
    FinishError,
    FinishRequest,
)
from workers.config import ShardConfig
from workers.control_plane import AttemptFenced, CallRefused, ControlPlane, ControlPlaneUnreachable
from workers.errors import JobError
from workers.executors.truncation import keep_beginning
from workers.runner.attempt_calls import AttemptCalls
from workers.runner.events import EventStream, SequenceReset
from workers.runner.execution import Execution
from workers.runner.pausable_clock import first_of
from workers.runner.spool import Spool
from workers.runner_registry import RunnerEntry
from workers.sandbox.isolation import report_problem

log = logging.getLogger("runner")

# The runner tries to report the end for this long while the control plane is unreachable.
_REPORT_FOR_S = 900
# Bounds for keeping the agent's work after a failure, and while a person or the shard waits for the end.
_KEEP_FOR_S = 600
_KEEP_AT_CANCEL_S = 45
_PUSH_WIP_FOR_S = 300


class Runner:
    """Runner of one attempt, from claim to finish.

    Args:
        config: configuration of the shard.
        control: client of the control plane; ``run`` closes it.
        entry: job, attempt and slot.
    """

    def __init__(self, config: ShardConfig, control: ControlPlane, entry: RunnerEntry) -> None:
        self._config, self._control = config, control
        self._job_id, self._attempt, self._slot = entry.job_id, entry.attempt, entry.slot
        self._claim_token = secrets.token_urlsafe(32)
        self._stop = asyncio.Event()
        self._wake_events: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Run the attempt and report every outcome except a refused claim."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: self._wake_events())
        async with self._control as control:
            answer = await self._claim(control)
            if answer is not None:
                await self._run_attempt(control, answer)

    async def _claim(self, control: ControlPlane) -> ClaimAnswer | None:
        request = ClaimRequest(attempt=self._attempt, claim_token=self._claim_token)
        deadline = asyncio.get_running_loop().time() + CLAIM_DEADLINE_S
        while True:
            try:
                answer = await control.claim(self._job_id, request)
                if (answer["job_id"], answer["attempt"]) == (self._job_id, self._attempt):
                    return answer
                log.error("%s: not claimed: the control plane answered for another attempt", self._job_id)
                return None
            except CallRefused as refusal:
                log.warning("%s: not claimed: %s", self._job_id, refusal)
                return None
            except ControlPlaneUnreachable as error:
                # After this time the control plane withdraws the attempt and dispatches the job again.
                if asyncio.get_running_loop().time() > deadline:
                    log.error("%s: not claimed: %s", self._job_id, error)
                    return None
                await asyncio.sleep(1)

    async def _run_attempt(self, control: ControlPlane, answer: ClaimAnswer) -> None:
        redactor = Redactor(
            [*answer["secrets"].values(), answer["gateway"]["token"], self._claim_token, self._config.shard_key]
        )
        token = answer["secrets"].get("repo_token")
        calls = AttemptCalls(control, self._job_id, self._attempt, self._claim_token, redactor, token)
        execution = Execution(self._config, answer, self._slot, calls)
        spool = Spool(self._config.run_path)
        events = EventStream(
            control,
            self._job_id,
            self._attempt,
            self._claim_token,
            answer["next_seq"],
            redactor,
            spool,
            on_silence=execution.freeze,
            on_contact=execution.thaw,
        )
        self._wake_events = events.wake
        poster = asyncio.create_task(events.run())
        try:
            request = await self._work_to_outcome(execution, events, poster, answer["timeout_s"])
            if request is not None:
                await self._report(control, events, poster, redactor, request)
        except (CallRefused, SequenceReset) as refusal:
            log.warning("%s.%s: the attempt is given up: %s", self._job_id, self._attempt, refusal)
        except TimeoutError:
            log.error("%s.%s: the end could not be reported within %s s", self._job_id, self._attempt, _REPORT_FOR_S)
        finally:
            await execution.close()
            poster.cancel()
            with suppress(asyncio.CancelledError, CallRefused, SequenceReset):
                await poster
            spool.close()

    async def _work_to_outcome(
        self, execution: Execution, events: EventStream, poster: asyncio.Task[None], timeout_s: int
    ) -> FinishRequest | None:
        """Do the work until it ends, is cancelled or interrupted, loses its attempt or runs out of time.

        Returns:
            The report, or None when the attempt was fenced.
        """
        work = asyncio.create_task(execution.run(events))
        cancel = asyncio.create_task(events.cancel_requested.wait())
        stop = asyncio.create_task(self._stop.wait())
        try:
            done = await first_of({work, cancel, stop, poster}, execution.clock, timeout_s)
            # Finished work takes precedence over a cancel that arrives at the same moment.
            if work in done:
                return await self._result_of(work, execution, events)
            proof = await self._stop_work(work, execution)
            if poster in done:
                return None
            if cancel in done:
                await execution.keep_work(events, _KEEP_AT_CANCEL_S)
                last = await execution.kill()
                return self._finish_request(Outcome.CANCELLED, {}, proof=_both(proof, last))
            if stop in done:
                message = "The shard was stopped while the job ran; retry the job."
                error = JobError("interrupted", message, retryable=True)
                return await self._failed(error, execution, events, _KEEP_AT_CANCEL_S)
            return await self._failed(execution.model_wait.timeout_error(timeout_s), execution, events)
        finally:
            for task in (work, cancel, stop):
                task.cancel()
            await asyncio.gather(work, cancel, stop, return_exceptions=True)

    async def _result_of(
        self, work: asyncio.Task[dict[str, Any]], execution: Execution, events: EventStream
    ) -> FinishRequest | None:
        try:
            result = await work
        except JobError as error:
            if error.code == "sandbox_failed":
                # Other jobs would fail in the same way, so the worker must take none until a sandbox works again.
                report_problem(self._config.run_path, str(error))
            return await self._failed(error, execution, events)
        except (AttemptFenced, SequenceReset):
            return None
        except OSError as error:
            return await self._failed(_shard_error(error), execution, events)
        except CallRefused:
            raise
        except Exception as error:  # the only place where a bug in the runner becomes a failed job
            log.exception("%s.%s: unexpected error", self._job_id, self._attempt)
            failure = JobError(
                "runner_error",
                f"The runner had an unexpected error ({type(error).__name__}); ask an operator to check its log.",
            )
            return await self._failed(failure, execution, events)
        return self._finish_request(Outcome.COMPLETED, result)

    async def _failed(
        self, error: JobError, execution: Execution, events: EventStream, keep_for_s: float = _KEEP_FOR_S
    ) -> FinishRequest:
        """Kill the processes, keep what the agent did so far, and return the report of the failure."""
        await execution.kill()
        kept = await execution.keep_work(events, keep_for_s)
        pushed = None
        if error.code != "interrupted":
            pushed = await execution.push_wip(events, _PUSH_WIP_FOR_S, retryable=error.retryable)
        where = f"It is also on the branch {pushed.branch}." if pushed else ""
        text = " ".join(filter(None, (str(error), kept, where)))
        result = {"wip_branch": pushed.branch, "wip_head": pushed.sha} if pushed else {}
        return self._failure(JobError(error.code, text, retryable=error.retryable), await execution.kill(), result)

    @staticmethod
    async def _stop_work(work: asyncio.Task[dict[str, Any]], execution: Execution) -> CancelProof:
        """Kill the processes, then cancel the task; in this order, so that the task waits for no running agent."""
        proof = await execution.kill()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        # A process that started during the first kill is killed now. This second check is the proof.
        return _both(proof, await execution.kill())

    def _failure(
        self, error: JobError, proof: CancelProof | None, result: dict[str, Any] | None = None
    ) -> FinishRequest:
        detail = FinishError(code=error.code, message=keep_beginning(str(error), 4000), retryable=error.retryable)
        return self._finish_request(Outcome.FAILED, result or {}, error=detail, proof=proof)

    def _finish_request(
        self,
        outcome: Outcome,
        result: dict[str, Any],
        *,
        error: FinishError | None = None,
        proof: CancelProof | None = None,
    ) -> FinishRequest:
        return FinishRequest(
            attempt=self._attempt, outcome=outcome.value, final_seq=0, result=result, error=error, proof=proof
        )

    async def _report(
        self,
        control: ControlPlane,
        events: EventStream,
        poster: asyncio.Task[None],
        redactor: Redactor,
        request: FinishRequest,
    ) -> None:
        request = redactor.redact(request)
        async with asyncio.timeout(_REPORT_FOR_S):
            await events.enter(Phase.REPORTING)
            await events.emit(
                EventKind.RESULT,
                {"outcome": request["outcome"], "result": request["result"], "error": request.get("error")},
            )
            await events.confirm()
            request["final_seq"] = events.last_seq
            try:
                await self._finish(control, request)
            except AttemptFenced:
                raise
            except CallRefused as refusal:
                # Report this failure instead, because a job without any report would count as lost.
                error = JobError(
                    "report_refused",
                    f"The control plane refused the shard's report: {refusal} Ask an operator to check it.",
                )
                failure = self._failure(error, request.get("proof"))
                await self._finish(control, {**failure, "final_seq": events.last_seq})

    async def _finish(self, control: ControlPlane, request: FinishRequest) -> None:
        while True:
            try:
                await control.finish(self._job_id, self._claim_token, request)
            except ControlPlaneUnreachable as error:
                log.warning("%s: the end is not reported yet: %s", self._job_id, error)
                await asyncio.sleep(2)
            else:
                return


def _both(first: CancelProof, last: CancelProof) -> CancelProof:
    """Return the proof of two kills: the last one tells whether a process is left."""
    return CancelProof(
        processes_killed=first["processes_killed"] + last["processes_killed"],
        processes_left=last["processes_left"],
        checked_at=last["checked_at"],
    )


def _shard_error(error: OSError) -> JobError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError("disk_full", "The shard's disk is full; ask an operator to free space.", retryable=True)
    message = f"The shard failed: {error.strerror}; ask an operator to check it."
    return JobError("shard_error", message, retryable=True)
