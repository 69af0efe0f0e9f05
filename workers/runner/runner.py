"""The runner: one process, one attempt. It claims, prepares, runs the agent, pushes, reports, and is gone.

It is started ahead of need, imports everything and then waits for one line on its standard input, so
that a job does not wait for imports. It is its own session: it outlives the worker that started it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from myctobot.contract.jobs import (
    CLAIM_DEADLINE_S,
    CancelProof,
    ClaimAnswer,
    ClaimRequest,
    Cleaner,
    EventKind,
    FinishError,
    FinishRequest,
    Outcome,
    Phase,
)
from workers.config import ShardConfig, load_config
from workers.control_plane import ControlPlane, Fenced, Refused, Unreachable
from workers.errors import JobError
from workers.executors import create_executor
from workers.hardening import keep_memory_private
from workers.runner.events import EventStream, OrderBroken
from workers.runner.execution import Work
from workers.runner.pausable_clock import first_of
from workers.runner.spool import Spool
from workers.runner_registry import Registry, RunnerEntry

log = logging.getLogger("runner")

# Reporting the end goes on for this long while the control plane is away; events wait with it.
_REPORT_FOR_S = 900


class Runner:
    """Carries one attempt from claim to finish.

    Args:
        config: the shard's.
        control: the line to the control plane; closed in the end.
        entry: which attempt, in which slot.
    """

    def __init__(self, config: ShardConfig, control: ControlPlane, entry: RunnerEntry) -> None:
        self._config, self._control = config, control
        self._job_id, self._attempt, self._slot = entry.job_id, entry.attempt, entry.slot
        self._claim_token = secrets.token_urlsafe(32)
        self._stop = asyncio.Event()
        self._poke: Callable[[], None] = lambda: None

    async def run(self) -> None:
        """Carry the attempt; every outcome but a refused claim is reported."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_signal_handler(signal.SIGUSR1, lambda: self._poke())
        async with self._control as control:
            answer = await self._claim(control)
            if answer is not None:
                await self._carry(control, answer)

    async def _claim(self, control: ControlPlane) -> ClaimAnswer | None:
        request = ClaimRequest(attempt=self._attempt, claim_token=self._claim_token)
        deadline = asyncio.get_running_loop().time() + CLAIM_DEADLINE_S
        while True:
            try:
                return await control.claim(self._job_id, request)
            except Refused as refusal:
                log.warning("%s: not claimed: %s", self._job_id, refusal)
                return None
            except Unreachable as trouble:
                # Past this the control plane withdraws the attempt and sends the job anew.
                if asyncio.get_running_loop().time() > deadline:
                    log.error("%s: not claimed: %s", self._job_id, trouble)
                    return None
                await asyncio.sleep(1)

    async def _carry(self, control: ControlPlane, answer: ClaimAnswer) -> None:
        cleaner = Cleaner(
            [*answer["secrets"].values(), answer["gateway"]["token"], self._claim_token, self._config.shard_key]
        )
        work = Work(self._config, answer, self._slot)
        spool = Spool(self._config.run_path)
        events = EventStream(
            control,
            self._job_id,
            self._attempt,
            self._claim_token,
            answer["next_seq"],
            cleaner,
            spool,
            on_silence=work.freeze,
            on_contact=work.thaw,
        )
        self._poke = events.poke
        poster = asyncio.create_task(events.run())
        try:
            request = await self._outcome(work, events, poster, answer["timeout_s"])
            if request is not None:
                await self._report(control, events, poster, cleaner, request)
        except (Refused, OrderBroken) as refusal:
            log.warning("%s.%s: given up: %s", self._job_id, self._attempt, refusal)
        except TimeoutError:
            log.error("%s.%s: the end could not be reported for %s s", self._job_id, self._attempt, _REPORT_FOR_S)
        finally:
            await work.close()
            poster.cancel()
            with suppress(asyncio.CancelledError, Refused, OrderBroken):
                await poster
            spool.close()

    async def _outcome(
        self, work: Work, events: EventStream, poster: asyncio.Task[None], timeout_s: int
    ) -> FinishRequest | None:
        """Do the work until it ends, is cancelled, interrupted, fenced or out of time.

        Returns:
            What to report, or None when the attempt was fenced.
        """
        doing = asyncio.create_task(work.run(events))
        cancel = asyncio.create_task(events.cancel_wanted.wait())
        stop = asyncio.create_task(self._stop.wait())
        try:
            done = await first_of({doing, cancel, stop, poster}, work.clock, timeout_s)
            # A finished piece of work wins over a cancel that came in the same moment.
            if doing in done:
                return await self._finished(doing, work)
            proof = await self._end(doing, work)
            if poster in done:
                return None
            if cancel in done:
                return self._request(Outcome.CANCELLED, {}, proof=proof)
            if stop in done:
                message = "The shard was stopped while the job ran; retry it."
                return self._failure(JobError("interrupted", message, retryable=True), proof)
            message = f"The job ran longer than its timeout_s of {timeout_s}; give it more time or less to do."
            return self._failure(JobError("timeout", message), proof)
        finally:
            for task in (doing, cancel, stop):
                task.cancel()
            await asyncio.gather(doing, cancel, stop, return_exceptions=True)

    async def _finished(self, doing: asyncio.Task[dict[str, Any]], work: Work) -> FinishRequest | None:
        try:
            result = await doing
        except JobError as error:
            return self._failure(error, await work.kill())
        except (Fenced, OrderBroken):
            return None
        except OSError as error:
            return self._failure(_shard_error(error), await work.kill())
        except Refused:
            raise
        except Exception as error:  # the one border where a mistake of ours becomes the end of a job
            log.exception("%s.%s: unforeseen", self._job_id, self._attempt)
            mistake = JobError("runner_error", f"The runner failed ({type(error).__name__}); its log says more.")
            return self._failure(mistake, await work.kill())
        return self._request(Outcome.COMPLETED, result)

    @staticmethod
    async def _end(doing: asyncio.Task[dict[str, Any]], work: Work) -> CancelProof:
        """Kill what runs, then unwind: in this order, so that nothing waits for an agent that ignores its end."""
        proof = await work.kill()
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)
        # What was being started while the first kill went on is ended by the second, which proves it.
        last = await work.kill()
        return CancelProof(
            processes_killed=proof["processes_killed"] + last["processes_killed"],
            processes_left=last["processes_left"],
            checked_at=last["checked_at"],
        )

    def _failure(self, error: JobError, proof: CancelProof | None) -> FinishRequest:
        detail = FinishError(code=error.code, message=str(error)[:4000], retryable=error.retryable)
        return self._request(Outcome.FAILED, {}, error=detail, proof=proof)

    def _request(
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
        cleaner: Cleaner,
        request: FinishRequest,
    ) -> None:
        request = cleaner.clean(request)
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
            except Fenced:
                raise
            except Refused as refusal:
                # Better a job that ends with this than one that is lost: something in the report is not as agreed.
                error = JobError("report_refused", f"The shard's report was refused: {refusal}")
                failure = self._failure(error, request.get("proof"))
                await self._finish(control, {**failure, "final_seq": events.last_seq})

    async def _finish(self, control: ControlPlane, request: FinishRequest) -> None:
        while True:
            try:
                await control.finish(self._job_id, self._claim_token, request)
            except Unreachable as trouble:
                log.warning("%s: the end is not reported yet: %s", self._job_id, trouble)
                await asyncio.sleep(2)
            else:
                return


def _shard_error(error: OSError) -> JobError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError("disk_full", "The shard's disk is full; an operator must make room.", retryable=True)
    return JobError("shard_error", f"The shard failed: {error.strerror}; an operator must see to it.", retryable=True)


def read_order() -> dict[str, Any] | None:
    """Wait for the one line that says which attempt to carry; None when there will be none."""
    line = sys.stdin.readline()
    return dict(json.loads(line)) if line.strip() else None


def main() -> None:
    keep_memory_private()
    logging.basicConfig(format="runner[%(process)d] %(levelname)s %(message)s", level=logging.INFO)
    # A log that nobody reads any more (the worker was killed) is no reason to fail.
    logging.raiseExceptions = False
    for noisy in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config = load_config(Path(sys.argv[1]))
    # What takes long is done before there is a job that would wait for it: the import of the real executor
    # takes over a second, and reading the certificates a tenth of one.
    create_executor(config)
    control = ControlPlane(config.control_url, config.shard_key)
    order = read_order()
    if order is None:
        return
    registry = Registry(config.run_path)
    entry = registry.add(order["job_id"], order["attempt"], order["slot"])
    try:
        asyncio.run(Runner(config, control, entry).run())
    finally:
        registry.remove(entry)
    # Nothing may hold the process up any more: threads of libraries, say.
    logging.shutdown()
    os._exit(0)


if __name__ == "__main__":
    main()
