"""Celery tasks of the control worker: shells around one service call each."""

from __future__ import annotations

from celery import shared_task

from jobs.callbacks.delivery import deliver_due
from jobs.capacity.pool_load import scale_pools
from jobs.control_loop import full_round
from jobs.lifecycle.reachability import look
from jobs.lifecycle.reaper import recover
from jobs.maintenance.retention import clean_up
from myctobot.lib.duty_cycle import Pace

# Rounds take a quarter of a processor at most, however often they are asked for: under load each finds more to do. What
# a round costs here it costs the database about once more.
_pace = Pace(6)


@shared_task(name="jobs.dispatch_round", ignore_result=True)
def dispatch_round_task() -> None:
    with _pace.work():
        full_round()


@shared_task(name="jobs.tick", ignore_result=True)
def tick_task() -> None:
    try:
        recover(look())
    finally:
        # Work that waits must not wait for what is wrong with other work.
        with _pace.work():
            full_round()


@shared_task(name="jobs.scale_pools", ignore_result=True)
def scale_pools_task() -> None:
    scale_pools()


@shared_task(name="jobs.maintenance.retention", ignore_result=True)
def retention_task() -> None:
    clean_up()


@shared_task(name="jobs.deliver_callbacks", ignore_result=True)
def deliver_callbacks_task() -> None:
    deliver_due()
