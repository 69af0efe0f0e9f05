"""What is done to a shard on which something may still run that nobody can stop otherwise."""

from __future__ import annotations

import structlog

from jobs.models.job import Attempt
from jobs.models.states import LIVE_ATTEMPTS
from myctobot.errors import MyctobotError
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Shard
from shards.operations.models import OperationKind
from shards.operations.requests import request

log = structlog.get_logger(__name__)

_BY = "recovery"


def stop_what_runs(attempt: Attempt) -> str:
    """Restart the container in which an attempt ran that does not end; call it once the attempt has been burnt.

    A shard that runs others' jobs too is only drained: they must not pay for this one.

    Returns:
        What was done, as a sentence for the job; empty when nothing could be.
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
    return f"The container of {shard.name} is being restarted, which ends whatever still runs there."


def _drain(shard: Shard, attempt: Attempt) -> str:
    reason = f"{attempt.job.public_id} may still run there; restart it when the others are done."
    closing.drain(shard.name, by=_BY, reason=reason)
    return f"{shard.name} runs other jobs, so it is drained; an operator restarts it when they are done."
