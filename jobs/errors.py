"""Errors about jobs.

MyctobotError
├── InvalidRequest ── NoEligibleShard, NoModelAccess
├── NotAuthenticated ── StaleCaller
├── NotFound ── UnknownJob, UnknownCallback, UnknownWork
├── QueueLimitReached        429
└── Conflict
    ├── JobFinished, JobNotFinished, IdempotencyMismatch, SecretsRequired, WorkTooLarge
    └── Fenced            the caller's attempt is not the present one
        ├── NotClaimable
        └── OutOfOrder    carries ``expected``
"""

from __future__ import annotations

from myctobot.errors import Conflict, InvalidRequest, MyctobotError, NotAuthenticated, NotFound


class NoEligibleShard(InvalidRequest):
    """No shard that this tenant may use could ever run the job."""

    code = "no_eligible_shard"


class NoModelAccess(InvalidRequest):
    """The job can reach no model: it has no provider key, and this installation has no other access to one."""

    code = "no_model_access"


class StaleCaller(NotAuthenticated):
    """The caller's credentials were valid a moment ago and must be checked again."""

    code = "stale_caller"


class QueueLimitReached(MyctobotError):
    """The tenant has reached its limit of waiting jobs; try again when some have started."""

    code = "queue_limit_reached"
    http_status = 429
    retryable = True


class UnknownJob(NotFound):
    """There is no such job, or it belongs to another tenant."""

    code = "unknown_job"


class UnknownCallback(NotFound):
    """The job has no callback with this id."""

    code = "unknown_callback"


class UnknownWork(NotFound):
    """The job has no kept work, or it has expired."""

    code = "unknown_work"


class WorkTooLarge(Conflict):
    """The work does not fit into the bounds for kept work."""

    code = "work_too_large"


class JobFinished(Conflict):
    """The job has ended already; there is nothing to cancel."""

    code = "job_finished"


class JobNotFinished(Conflict):
    """The job has not ended yet; wait for its end or cancel it first."""

    code = "job_not_finished"


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used for another request; use a new key for a new job."""

    code = "idempotency_mismatch"


class SecretsRequired(Conflict):
    """The job's secrets were wiped when it ended; send them again with the retry."""

    code = "secrets_required"


class Fenced(Conflict):
    """This attempt is not the job's current one: stop, change nothing, forget its secrets."""

    code = "fenced"


class NotClaimable(Fenced):
    """The attempt cannot be claimed: taken, withdrawn, cancelled or not for this shard. Nothing ran."""

    code = "not_claimable"


class SigningSecretUnreadable(Conflict):
    """No configured key can decrypt the signing secret; make a new one with POST."""

    code = "signing_secret_unreadable"


class OutOfOrder(Conflict):
    """An event is missing before this batch; send again from the expected number."""

    code = "out_of_order"
