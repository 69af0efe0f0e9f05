"""Celery tasks of the control worker: shells around one service call each."""

from __future__ import annotations

from celery import shared_task

from jobs.callbacks.delivery import deliver_due
from jobs.dispatch import dispatch_round
from jobs.recovery import recover
from jobs.retention import clean_up
from jobs.upkeep import look


@shared_task(name="jobs.dispatch_round", ignore_result=True)
def dispatch_round_task() -> None:
    dispatch_round()


@shared_task(name="jobs.tick", ignore_result=True)
def tick_task() -> None:
    try:
        recover(look())
    finally:
        # Work that waits must not wait for what is wrong with other work.
        dispatch_round()


@shared_task(name="jobs.retention", ignore_result=True)
def retention_task() -> None:
    clean_up()


@shared_task(name="jobs.deliver_callbacks", ignore_result=True)
def deliver_callbacks_task() -> None:
    deliver_due()
