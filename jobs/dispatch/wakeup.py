"""Requests for a dispatch round: one message for many callers."""

from __future__ import annotations

from contextlib import suppress

import structlog
from django.db import transaction
from redis import RedisError

from jobs.broker import redis_client
from myctobot.lib.debounce import Debouncer
from myctobot.messaging import send_to_control

log = structlog.get_logger(__name__)


# Set from the request of a round until the round starts. It expires in case the control worker dies in between.
_ROUND_WANTED = "myctobot:round-wanted"
_ROUND_WANTED_MS = 1000
# Requests within this time share one message, because a message costs more than this delay.
_MIN_INTERVAL_S = 0.05


def _request_round() -> None:
    try:
        if not redis_client().set(_ROUND_WANTED, 1, nx=True, px=_ROUND_WANTED_MS):
            return
    except RedisError as error:
        log.warning("broker.unreachable", wanted="dispatch round", error=str(error))
        return
    send_to_control("jobs.dispatch_round")


_debouncer = Debouncer(_request_round, _MIN_INTERVAL_S)


def request_round() -> None:
    """Ask the control worker for a dispatch round now; beat also asks each second.

    A round sees everything that was committed before it started, so simultaneous callers need only one.
    """
    _debouncer.trigger()


def request_round_after_commit() -> None:
    """Ask for a dispatch round after the current transaction commits."""
    transaction.on_commit(request_round, robust=True)


def mark_round_started() -> None:
    """Clear the mark before the round reads anything, so that a later request starts another round."""
    with suppress(RedisError):
        redis_client().delete(_ROUND_WANTED)
