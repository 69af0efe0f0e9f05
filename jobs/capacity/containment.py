"""Containment of an attempt that may still run although it has been invalidated."""

from __future__ import annotations

import structlog

from jobs.models import Attempt
from jobs.models.states import LIVE_ATTEMPTS
from myctobot.errors import MyctobotError
from shards.lifecycle import suspensions
from shards.models import Shard
from shards.operations.models import OperationKind
from shards.operations.requests import request

log = structlog.get_logger(__name__)

_BY = "recovery"


def contain_attempt(attempt: Attempt) -> str:
    """Restart the container of an attempt that does not stop; call it after the attempt has been invalidated.

    A shard that also runs other jobs is drained instead, so that they are not interrupted.

    Returns:
        A sentence for the job that says what was done; empty when nothing could be done.
    """
    shard = attempt.shard
    if shard is None or not shard.provider_ref:
        return ""
    try:
        if Attempt.objects.filter(shard=shard, state__in=LIVE_ATTEMPTS).exists():
            return _drain(shard, attempt)
        request(shard, OperationKind.RESTART, by=_BY, force=True)
    except MyctobotError as error:
        log.warning("attempt.container_not_stopped", shard=shard.name, why=error.message)
        return ""
    return f"The container of {shard.name} is being restarted, which stops everything that still runs there."


def _drain(shard: Shard, attempt: Attempt) -> str:
    reason = f"{attempt.job.public_id} may still run there; restart it when the other jobs have ended."
    suspensions.drain(shard.name, by=_BY, reason=reason)
    return f"{shard.name} runs other jobs, so it is drained; an operator restarts it when they have ended."
