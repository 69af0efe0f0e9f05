"""Celery worker of a shard: one process, one thread for each slot, one task.

The task starts a runner for the attempt and waits for its end, so a slot is occupied for as long as a runner lives. The
worker acknowledges early and prefetches nothing: PostgreSQL has the state, and a message only wakes the worker.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from threading import Thread
from typing import Any

from celery import Celery
from celery.apps.worker import Worker
from celery.bootsteps import StartStopStep
from celery.signals import setup_logging, worker_ready, worker_shutting_down
from celery.utils.nodenames import host_format
from celery.worker import state as worker_state
from celery.worker.consumer import Tasks
from celery.worker.control import control_command, inspect_command
from kombu import Exchange, Queue

from myctobot.contract.runner import EXECUTE_TASK
from myctobot.contract.shards import HeartbeatAnswer
from workers.config import ShardConfig
from workers.runner_registry import RunnerEntry
from workers.worker.heartbeat import HeartbeatSender
from workers.worker.redis_transport import ShardEvents, use_for_redis
from workers.worker.reload import Reload
from workers.worker.spawner import Spawner

log = logging.getLogger(__name__)

MAX_LOG_LINES = 1000
_MAX_LOG_LINE = 2000
# Seconds between two events that say that the worker is alive; monitors wait for two of them.
_EVENTS_EVERY_S = 10


class AdoptedRunner:
    """Entry in Celery's set of reserved requests for a runner that an earlier worker started.

    With ``worker_disable_prefetch`` a worker takes a message only while that set is smaller than its pool, so the slot
    of an adopted runner stays occupied.
    """

    def __init__(self, entry: RunnerEntry) -> None:
        self.id = f"adopted-{entry.name}"
        self.entry = entry

    def info(self, **_: Any) -> dict[str, Any]:
        """Return the description that ``inspect reserved`` shows."""
        return {"id": self.id, "name": EXECUTE_TASK, "args": [self.entry.job_id, self.entry.attempt]}


class ReserveAdoptedSlots(StartStopStep):
    """Bootstep that reserves the adopted runners' slots again after each connection to the broker."""

    requires = (Tasks,)

    def start(self, parent: Any) -> None:
        parent.app.shard_worker.reserve_adopted_slots()


def _queue(name: str) -> Queue:
    # Use the anonymous exchange. A named one stores bindings in keys, and a shard would need permission to write them.
    return Queue(name, exchange=Exchange("", type="direct"), routing_key=name, no_declare=True)


class ShardWorker:
    """Celery application of a shard, with its spawner and its heartbeat.

    Args:
        config: configuration of the shard.
        config_path: file of the configuration.
    """

    def __init__(self, config: ShardConfig, config_path: Path) -> None:
        self.config = config
        self.spawner = Spawner(config, config_path)
        self.heartbeat = HeartbeatSender(config, self.spawner, self.apply_orders)
        self.spawner.on_ended = self.heartbeat.beat_now
        self.log_tail: deque[str] = deque(maxlen=MAX_LOG_LINES)
        # Celery keeps reserved requests in a WeakSet, so keep a reference here.
        self._adopted: set[AdoptedRunner] = set()
        use_for_redis()
        self.app = Celery("workers", events=ShardEvents)
        self._worker: Worker | None = None
        self._queues: set[str] = set()

    def run(self) -> int:
        """Send heartbeats until the control plane answers, then consume until a signal; return the exit code."""
        logging.getLogger().addHandler(_LogTail(self.log_tail))
        queues = self.heartbeat.first_answer()["queues"]
        self._configure(queues)
        self.adopt()
        # Heartbeats must not wait for the imports of the fork server.
        Thread(target=self.spawner.keep_spare, daemon=True, name="spare").start()
        self.heartbeat.start()
        log.info("shard %s takes jobs from %s", self.config.shard_id, ", ".join(queues))
        worker = self._worker = self._make_worker()
        reload = Reload(self._stop_consuming, lambda: not self.spawner.is_starting)
        worker_ready.connect(lambda **_: reload.listen(), weak=False)
        worker_shutting_down.connect(lambda **_: self.spawner.stop_waiting(), weak=False)
        try:
            worker.start()
        finally:
            self.heartbeat.stop()
            self.spawner.close()
        return worker.exitcode or 0

    def _stop_consuming(self) -> None:
        """Take no more messages; runners continue."""
        self.heartbeat.stop()
        self._consume(set())
        self.spawner.close()

    def adopt(self) -> None:
        """Adopt the runners of an earlier worker and wait for each end in a thread."""
        for entry in self.spawner.adopt():
            log.info("adopted the runner of %s in slot %s", entry.name, entry.slot)
            adopted = AdoptedRunner(entry)
            self._adopted.add(adopted)
            Thread(target=self._watch, args=[adopted], daemon=True, name=adopted.id).start()

    def reserve_adopted_slots(self) -> None:
        """Reserve the adopted runners' slots; Celery clears its set with each connection to the broker."""
        for adopted in tuple(self._adopted):
            worker_state.reserved_requests.add(adopted)

    def _watch(self, adopted: AdoptedRunner) -> None:
        try:
            self.spawner.await_adopted(adopted.entry)
        finally:
            self._adopted.discard(adopted)
            worker_state.reserved_requests.discard(adopted)

    def apply_orders(self, answer: HeartbeatAnswer) -> None:
        """Consume the queues that the control plane names, or none while it wants this shard drained."""
        self._consume(set() if "drain" in answer["orders"] else set(answer["queues"]))

    def _consume(self, wanted: set[str]) -> None:
        consumer: Any = getattr(self._worker, "consumer", None)
        if consumer is None or wanted == self._queues:
            return
        log.info("now taking jobs from %s", ", ".join(sorted(wanted)) or "no queue: draining")
        for name in self._queues - wanted:
            consumer.call_soon(consumer.cancel_task_queue, name)
        for name in wanted - self._queues:
            self.app.amqp.queues.add(_queue(name))
            consumer.call_soon(consumer.add_task_queue, name)
        self._queues = wanted

    def _configure(self, queues: list[str]) -> None:
        self._queues = set(queues)
        self.app.conf.update(
            broker_url=self.config.broker_url,
            task_ignore_result=True,
            task_acks_late=False,
            accept_content=["json"],
            task_create_missing_queues=False,
            task_queues=[_queue(name) for name in queues],
            worker_disable_prefetch=True,
            worker_prefetch_multiplier=1,
            worker_cancel_long_running_tasks_on_connection_loss=False,
            worker_hijack_root_logger=False,
            broker_connection_max_retries=None,
            broker_connection_retry_on_startup=True,
            # By default, kombu accepts any certificate for rediss://.
            broker_use_ssl={"ssl_cert_reqs": "required"} if self.config.broker_url.startswith("rediss:") else None,
            broker_transport_options={
                "priority_steps": [0],
                "socket_connect_timeout": 5,
                # An event must not wait long for a silent broker, because its loop also does all other work.
                "socket_timeout": 10,
                "socket_keepalive": True,
            },
        )
        self.app.task(name=EXECUTE_TASK, shared=False, ignore_result=True)(self._execute)
        self.app.steps["consumer"].add(ReserveAdoptedSlots)
        self.app.shard_worker = self  # type: ignore[attr-defined]  # for the control commands

    def _execute(self, job_id: str, attempt: int) -> None:
        self.spawner.run(job_id, attempt)

    def _make_worker(self) -> Worker:
        # Create the worker as ``celery worker`` does. The command itself would use a quarter of this process's
        # memory, because it imports every subcommand.
        return Worker(
            app=self.app,
            hostname=host_format(f"shard-{self.config.shard_id}@%h"),
            pool_cls="threads",
            concurrency=self.config.max_concurrent_jobs,
            loglevel="INFO",
            quiet=True,
            without_gossip=True,
            without_mingle=True,
            heartbeat_interval=_EVENTS_EVERY_S,
            task_events=True,
        )


class _LogTail(logging.Handler):
    """Log handler that keeps the last lines for the ``tail_log`` command."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname} {record.getMessage()}"[:_MAX_LOG_LINE])


@setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """Prevent Celery from replacing our logging, which it does when this signal has no receiver."""


def _shard_worker(state: Any) -> ShardWorker:
    found: ShardWorker = state.app.shard_worker
    return found


@inspect_command()
def capabilities(state: Any) -> dict[str, Any]:
    """Return what this shard offers, to compare with its configuration in the control plane."""
    config = _shard_worker(state).config
    return {
        "shard": config.shard_id,
        "type": config.shard_type,
        "capabilities": list(config.capabilities),
        "mcp_servers": sorted(config.mcp_servers),
        "slots": config.max_concurrent_jobs,
        "executor": config.executor,
        "running": [entry.name for entry in _shard_worker(state).spawner.running()],
    }


@inspect_command(args=[("lines", int)], signature="[N=100]")
def tail_log(state: Any, lines: int = 100, **_: Any) -> list[str]:
    """Return the last lines of this worker's log."""
    return list(_shard_worker(state).log_tail)[-max(1, min(lines, MAX_LOG_LINES)) :]


@control_command(args=[("job_id", str)], signature="<job_id>")
def cancel(state: Any, job_id: str) -> dict[str, str]:
    """Make the runner of a job ask the control plane now whether a cancel is requested.

    The message is only a notification: the runner trusts the control plane's answer alone.
    """
    return {"ok": f"woke {_shard_worker(state).spawner.wake(job_id)} runner(s)"}


@control_command()
def refresh(state: Any) -> dict[str, str]:
    """Send a heartbeat now, to receive orders without waiting for the next one.

    The message is only a notification: the worker trusts the control plane's answer alone.
    """
    _shard_worker(state).heartbeat.beat_now()
    return {"ok": "sending a heartbeat"}
