"""Celery tasks of shards; each task calls one service function."""

from __future__ import annotations

from celery import shared_task
from django.utils import timezone

from myctobot.lib.failing_parts import failing_parts
from shards.health.monitor import check_reachability, watch
from shards.monitoring.alerts import deliver_due
from shards.monitoring.part_alerts import alert_failing_parts
from shards.monitoring.retention import clean_up
from shards.monitoring.sampling import sample
from shards.operations.executor import carry_out, sweep
from shards.operations.periodic import reconcile_all


@shared_task(name="shards.operate", ignore_result=True)
def operate_task(operation_id: int) -> None:
    carry_out(operation_id)


@shared_task(name="shards.sweep_operations", ignore_result=True)
def sweep_operations_task() -> None:
    sweep()


@shared_task(name="shards.reconcile", ignore_result=True)
def reconcile_task() -> None:
    reconcile_all()


@shared_task(name="shards.watch", ignore_result=True)
def watch_task() -> None:
    watch(check_reachability())


@shared_task(name="shards.sample", ignore_result=True)
def sample_task() -> None:
    sample()


@shared_task(name="shards.tell", ignore_result=True)
def tell_task() -> None:
    alert_failing_parts(failing_parts(), timezone.now())
    deliver_due()


@shared_task(name="shards.history_retention", ignore_result=True)
def history_retention_task() -> None:
    clean_up()
