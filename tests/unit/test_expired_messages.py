"""Messages that expire, as Celery's worker takes them: one of each task runs if the task has not run for a while."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from celery.concurrency.thread import TaskPool
from celery.signals import task_prerun
from celery.worker.request import create_request_cls  # type: ignore[attr-defined]  # newer than its stubs
from kombu import Message
from kombu.utils import uuid
from kombu.utils.imports import symbol_by_name

from myctobot import scheduled_request
from myctobot.celery import app
from myctobot.lib.expired_tasks import ExpiredTasks

TICK = "jobs.tick"


@pytest.fixture(autouse=True)
def _expired_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    app.loader.import_default_modules()
    monkeypatch.setattr(scheduled_request, "expired_tasks", ExpiredTasks())


def discards(expires_in_s: float) -> list[bool]:
    """Make a message as beat does and a request as the worker does, and ask it twice whether it is discarded."""
    task = app.tasks[TICK]
    made = app.amqp.as_task_v2(uuid(), TICK, expires=datetime.now(UTC) + timedelta(seconds=expires_in_s))
    message = Message(
        body=made.body,  # type: ignore[arg-type]  # the worker gets the decoded text
        headers=made.headers,
        properties=dict(made.properties),
        delivery_info={"routing_key": "control", "exchange": ""},
        channel=None,
    )
    make = create_request_cls(symbol_by_name(task.Request), task, TaskPool(1, app=app), "control", None, app=app)
    request = make(
        message, app=app, task=task, body=made.body, headers=made.headers, decoded=True, on_ack=lambda *_: None
    )
    return [request.revoked() for _ in range(2)]


def test_one_expired_message_runs_and_the_others_are_discarded() -> None:
    assert [discards(-1) for _ in range(3)] == [[False, False], [True, True], [True, True]]


def test_a_message_in_time_runs_and_keeps_no_other_one() -> None:
    assert discards(60) == [False, False]
    assert discards(-1) == [False, False]


def test_an_expired_message_is_discarded_after_a_run() -> None:
    tick = app.tasks[TICK]
    task_prerun.send(sender=tick, task_id=uuid(), task=tick, args=(), kwargs={})
    assert discards(-1) == [True, True]
