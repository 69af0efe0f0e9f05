"""The dispatch round: PostgreSQL is the queue, the broker holds only what a free slot is about to take."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from jobs import broker
from jobs.contract import JobStatus
from jobs.models import Attempt, Job
from jobs.routing import NoRoute, Route, route
from jobs.snapshot import load_snapshot
from jobs.states import LIVE_ATTEMPTS
from myctobot.lib.clock import database_now

log = structlog.get_logger(__name__)

# The key of the advisory lock that makes rounds go one at a time; any constant does ("mctb" in ASCII).
_ROUND_LOCK = 0x6D637462
# A round looks at every waiting job, or many that wait for one class would hold up those behind them
# that another class could take. So it reads of each only what it needs: no prompt.
_READ = ("public_id", "tenant_id", "capabilities", "attempt_number", "waiting_code", "waiting_reason")


@dataclass(frozen=True)
class Round:
    """What one dispatch round did."""

    sent: int
    waiting: int


def dispatch_round() -> Round:
    """Give every waiting job that has a free slot an attempt, and send it; the others get their reason.

    Any number of processes may call this at any time: an advisory lock lets them go one by one.
    """
    messages: list[tuple[str, int, str]] = []
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10s'")
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ROUND_LOCK])
        waiting = list(queued_jobs().filter(~has_live_attempt()).order_by("priority", "id").only(*_READ))
        if not waiting:
            return Round(0, 0)
        snapshot = load_snapshot(database_now())
        # Slots only become fewer within a round: what was refused once is refused to the others alike.
        refused: dict[tuple[int, tuple[str, ...]], NoRoute] = {}
        for job in waiting:
            kind = (job.tenant_id, tuple(job.capabilities))
            decision = refused.get(kind) or route(job.tenant_id, job.capabilities, snapshot)
            if isinstance(decision, NoRoute):
                refused[kind] = decision
                _say_why(job, decision)
            elif number := _create_attempt(job, decision):
                snapshot.place(decision)
                messages.append((job.public_id, number, decision.queue))
    for job_id, number, queue in messages:
        broker.send_execute(job_id, number, queue)
    return Round(len(messages), len(waiting) - len(messages))


def has_live_attempt() -> Exists:
    """Whether a job has been sent to a slot already."""
    return Exists(Attempt.objects.filter(job=OuterRef("pk"), state__in=LIVE_ATTEMPTS))


def queued_jobs() -> QuerySet[Job]:
    """Jobs that a slot is wanted for now, and those that have just been sent to one."""
    wanted = Job.objects.filter(status=JobStatus.QUEUED, cancel_requested_at=None, tenant__is_active=True)
    return wanted.filter(Q(not_before=None) | Q(not_before__lte=Now()))


def _create_attempt(job: Job, chosen: Route) -> int | None:
    number = job.attempt_number + 1
    # Compare-and-set: a cancel may have come in since the round read the job.
    taken = Job.objects.filter(
        pk=job.pk, status=JobStatus.QUEUED, attempt_number=job.attempt_number, cancel_requested_at=None
    ).update(attempt_number=number, waiting_code="dispatched", waiting_reason="A shard is about to take this job.")
    if not taken:
        return None
    Attempt.objects.create(job=job, number=number, queue=chosen.queue, shard_class=chosen.shard_class)
    return number


def _say_why(job: Job, why: NoRoute) -> None:
    if (job.waiting_code, job.waiting_reason) != (why.code, why.reason):
        Job.objects.filter(pk=job.pk, status=JobStatus.QUEUED).update(waiting_code=why.code, waiting_reason=why.reason)


def request_round() -> None:
    """Ask for a dispatch round once the present transaction is committed."""
    transaction.on_commit(broker.request_round, robust=True)


def burn(attempt: Attempt, state: str, *, code: str, message: str) -> bool:
    """End a live attempt that no runner will end; its number can never be used again.

    Returns:
        False when somebody else ended it first, which is normal.
    """
    return bool(
        Attempt.objects.filter(pk=attempt.pk, state=attempt.state, ended_at=None).update(
            state=state, ended_at=Now(), error_code=code, error_message=message, gateway_token_hash=None
        )
    )
