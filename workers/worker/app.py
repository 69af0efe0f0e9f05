"""The shard's Celery worker: one process, one thread a slot, one task.

It takes a message, has a runner carry the attempt and waits for its end; so a slot is taken for as long
as a runner lives. It acknowledges early and prefetches nothing: PostgreSQL is the truth, and a message is
only a doorbell.
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
from celery.signals import setup_logging, worker_ready
from celery.utils.nodenames import host_format
from celery.worker import state as worker_state
from celery.worker.consumer import Tasks
from celery.worker.control import control_command, inspect_command
from kombu import Exchange, Queue

from myctobot.contract.jobs import EXECUTE_TASK, HeartbeatAnswer
from workers.config import ShardConfig
from workers.runner_registry import RunnerEntry
from workers.worker.heartbeat import Heartbeat
from workers.worker.redis_transport import ShardEvents, use_for_redis
from workers.worker.reload import Reload
from workers.worker.spawner import Spawner

log = logging.getLogger(__name__)

MAX_LOG_LINES = 1000
# Seconds between two events that say that the worker lives; who watches events waits for two of them.
_EVENTS_EVERY_S = 10


class AdoptedRunner:
    """Stands in Celery's set of reserved requests for a runner that an earlier worker started.

    With ``worker_disable_prefetch`` a worker takes a message only while that set is smaller than its pool,
    so an adopted runner's slot is not given away.
    """

    def __init__(self, entry: RunnerEntry) -> None:
        self.id = f"adopted-{entry.name}"
        self.entry = entry

    def info(self, **_: Any) -> dict[str, Any]:
        """What ``inspect reserved`` shows."""
        return {"id": self.id, "name": EXECUTE_TASK, "args": [self.entry.job_id, self.entry.attempt]}


class CountAdopted(StartStopStep):
    """Counts the adopted runners anew whenever the connection to the broker is."""

    requires = (Tasks,)

    def start(self, parent: Any) -> None:
        parent.app.shard_worker.count_adopted()


def _queue(name: str) -> Queue:
    # The anonymous exchange: a named one keeps its bindings in keys that a shard would have to be allowed to write.
    return Queue(name, exchange=Exchange("", type="direct"), routing_key=name, no_declare=True)


class ShardWorker:
    """A shard's Celery application and what belongs to it.

    Args:
        config: the shard's.
        config_path: where it was read from.
    """

    def __init__(self, config: ShardConfig, config_path: Path) -> None:
        self.config = config
        self.spawner = Spawner(config, config_path)
        self.heartbeat = Heartbeat(config, self.spawner, self.obey)
        self.log_tail: deque[str] = deque(maxlen=MAX_LOG_LINES)
        # WeakSet on Celery's side: these must be held here.
        self._adopted: set[AdoptedRunner] = set()
        use_for_redis()
        self.app = Celery("workers", events=ShardEvents)
        self._worker: Worker | None = None
        self._queues: set[str] = set()

    def run(self) -> int:
        """Beat until the control plane answers, then consume until told to stop; returns the exit code."""
        logging.getLogger().addHandler(_Tail(self.log_tail))
        queues = self.heartbeat.first_answer()["queues"]
        self._configure(queues)
        self.adopt()
        self.spawner.keep_spare()
        self.heartbeat.start()
        log.info("shard %s takes jobs from %s", self.config.shard_id, ", ".join(queues))
        worker = self._worker = self._make_worker()
        reload = Reload(self._let_go, lambda: not self.spawner.is_starting)
        worker_ready.connect(lambda **_: reload.listen(), weak=False)
        try:
            worker.start()
        finally:
            self.heartbeat.stop()
            self.spawner.close()
        return worker.exitcode or 0

    def _let_go(self) -> None:
        """Take no more messages; what is at work stays at work."""
        self.heartbeat.stop()
        self._consume(set())
        self.spawner.close()

    def adopt(self) -> None:
        """Take over the runners that are still at work and watch each until its end."""
        for entry in self.spawner.adopt():
            log.info("adopted the runner of %s in slot %s", entry.name, entry.slot)
            adopted = AdoptedRunner(entry)
            self._adopted.add(adopted)
            Thread(target=self._watch, args=[adopted], daemon=True, name=adopted.id).start()

    def count_adopted(self) -> None:
        """Make Celery count the adopted runners' slots; it forgets them with each connection to the broker."""
        for adopted in tuple(self._adopted):
            worker_state.reserved_requests.add(adopted)

    def _watch(self, adopted: AdoptedRunner) -> None:
        try:
            self.spawner.await_adopted(adopted.entry)
        finally:
            self._adopted.discard(adopted)
            worker_state.reserved_requests.discard(adopted)

    def obey(self, answer: HeartbeatAnswer) -> None:
        """Consume the queues that the control plane names, none of them while it wants this shard drained."""
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
            # Kombu's default for rediss:// believes any certificate.
            broker_use_ssl={"ssl_cert_reqs": "required"} if self.config.broker_url.startswith("rediss:") else None,
            broker_transport_options={
                "priority_steps": [0],
                "socket_connect_timeout": 5,
                # An event must not wait for a broker that fell silent: the loop that sends it does everything else.
                "socket_timeout": 10,
                "socket_keepalive": True,
            },
        )
        self.app.task(name=EXECUTE_TASK, shared=False, ignore_result=True)(self._execute)
        self.app.steps["consumer"].add(CountAdopted)
        self.app.shard_worker = self  # type: ignore[attr-defined]  # control commands find their shard by it

    def _execute(self, job_id: str, attempt: int) -> None:
        self.spawner.run(job_id, attempt)

    def _make_worker(self) -> Worker:
        # What ``celery worker`` does with its arguments. The command itself would cost a quarter of this
        # process's memory: it imports every subcommand and what they need.
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


class _Tail(logging.Handler):
    """Keeps the last lines for the ``tail_log`` command."""

    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname} {record.getMessage()}")


@setup_logging.connect(weak=False)
def keep_our_logging(**_: Any) -> None:
    """Listening here is what stops Celery from replacing our logging."""


def _shard(state: Any) -> ShardWorker:
    found: ShardWorker = state.app.shard_worker
    return found


@inspect_command()
def capabilities(state: Any) -> dict[str, Any]:
    """What this shard offers, to compare with what is configured for it."""
    config = _shard(state).config
    return {
        "shard": config.shard_id,
        "type": config.shard_type,
        "capabilities": list(config.capabilities),
        "mcp_servers": sorted(config.mcp_servers),
        "slots": config.max_concurrent_jobs,
        "executor": config.executor,
        "running": [entry.name for entry in _shard(state).spawner.running()],
    }


@inspect_command(args=[("lines", int)], signature="[N=100]")
def tail_log(state: Any, lines: int = 100, **_: Any) -> list[str]:
    """The last lines of this worker's log."""
    return list(_shard(state).log_tail)[-max(1, min(lines, MAX_LOG_LINES)) :]


@control_command(args=[("job_id", str)], signature="<job_id>")
def cancel(state: Any, job_id: str) -> dict[str, str]:
    """Have the runner of a job ask the control plane now whether a cancel is wanted.

    Only a hint: the runner believes the control plane, not the message.
    """
    return {"ok": f"poked {_shard(state).spawner.poke(job_id)} runner(s)"}


@control_command()
def refresh(state: Any) -> dict[str, str]:
    """Ask the control plane for orders now, not with the next heartbeat.

    Only a hint: the worker believes the control plane, not the message.
    """
    _shard(state).heartbeat.ask_now()
    return {"ok": "asks now"}
