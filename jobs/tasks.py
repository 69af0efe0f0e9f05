"""Celery tasks of the control worker, each a call of one service function."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import worker_shutting_down

from jobs.callbacks.delivery import deliver_due, stop_delivering
from jobs.capacity.pool_load import scale_pools
from jobs.control_loop import run_once
from jobs.lifecycle.reachability import check_reachability
from jobs.lifecycle.reaper import recover
from jobs.maintenance.retention import clean_up
from myctobot.lib.duty_cycle import DutyCycle

# Limit rounds to a quarter of one processor, because a round costs the database about as much again.
_duty_cycle = DutyCycle(6)


@shared_task(name="jobs.dispatch_round", ignore_result=True)
def dispatch_round_task() -> None:
    with _duty_cycle.work():
        run_once()


@shared_task(name="jobs.tick", ignore_result=True)
def tick_task() -> None:
    try:
        recover(check_reachability())
    finally:
        # Dispatch even when the recovery of other jobs fails.
        with _duty_cycle.work():
            run_once()


@shared_task(name="jobs.scale_pools", ignore_result=True)
def scale_pools_task() -> None:
    scale_pools()


@shared_task(name="jobs.retention", ignore_result=True)
def retention_task() -> None:
    clean_up()


@shared_task(name="jobs.deliver_callbacks", ignore_result=True)
def deliver_callbacks_task() -> None:
    deliver_due()


@worker_shutting_down.connect
def _stop_tasks(**_: Any) -> None:
    """End tasks that go on as long as there is work; a warm shutdown waits for them."""
    stop_delivering()
