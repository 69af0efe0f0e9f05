"""Celery tasks of the control worker: shells around one service call each."""

from __future__ import annotations

from celery import shared_task

from jobs.dispatch import dispatch_round
from jobs.recovery import recover


@shared_task(name="jobs.dispatch_round", ignore_result=True)
def dispatch_round_task() -> None:
    recover()
    dispatch_round()
