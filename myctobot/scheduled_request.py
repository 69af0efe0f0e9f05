"""Celery's request for tasks of the control plane: an expired message runs if its task has not run for a while."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from celery.signals import task_prerun
from celery.worker.request import Request

from myctobot.lib.expired_tasks import ExpiredTasks

expired_tasks = ExpiredTasks()


class ScheduledRequest(Request):
    """Request that Celery asks twice whether it has expired: when it arrives and when it starts."""

    _is_kept = False

    def maybe_expire(self) -> Literal[True] | None:
        """Return True if the message is discarded because it has expired."""
        if self._is_kept or self.expires is None or datetime.now(self.expires.tzinfo) <= self.expires:
            return None
        self._is_kept = expired_tasks.keeps(self.name)
        return None if self._is_kept else super().maybe_expire()


@task_prerun.connect(weak=False)
def note_start(task: Any, **_: Any) -> None:
    expired_tasks.note_start(task.name)
