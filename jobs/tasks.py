"""Celery tasks of the control worker: shells around one service call each."""

from __future__ import annotations

from functools import cache

from celery import shared_task

from jobs.dispatch import dispatch_round
from jobs.recovery import recover
from myctobot.lib.clock import database_now

# When this process took its first task: kept, so that later calls give the same moment.
first_tick = cache(database_now)


@shared_task(name="jobs.dispatch_round", ignore_result=True)
def dispatch_round_task() -> None:
    recover(first_tick())
    dispatch_round()
