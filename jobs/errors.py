"""What can go wrong with a job.

MyctobotError
├── InvalidRequest ── NobodyCanRun
├── NotAuthenticated ── NotCertain
├── NotFound ── UnknownJob, UnknownCallback
├── TooManyWaiting        429
└── Conflict
    ├── JobIsOver, JobIsNotOver, IdempotencyMismatch, SecretsNeededAgain
    └── Fenced            the caller's attempt is not the present one
        ├── NotClaimable
        └── OutOfOrder    carries ``expected``
"""

from __future__ import annotations

from myctobot.errors import Conflict, InvalidRequest, MyctobotError, NotAuthenticated, NotFound


class NobodyCanRun(InvalidRequest):
    """No shard that this tenant may use could ever run the job."""

    code = "nobody_can_run"


class NotCertain(NotAuthenticated):
    """The caller was known a moment ago, and may not be any more: look again."""

    code = "not_certain"


class TooManyWaiting(MyctobotError):
    """The tenant has as many waiting jobs as it may have; try again when some have started."""

    code = "too_many_waiting"
    http_status = 429
    retryable = True


class UnknownJob(NotFound):
    """There is no such job, or it belongs to another tenant."""

    code = "unknown_job"


class UnknownCallback(NotFound):
    """The job has no callback of that id."""

    code = "unknown_callback"


class JobIsOver(Conflict):
    """The job has ended already; there is nothing to cancel."""

    code = "job_is_over"


class JobIsNotOver(Conflict):
    """The job has not ended yet; wait for its end or cancel it first."""

    code = "job_is_not_over"


class IdempotencyMismatch(Conflict):
    """This Idempotency-Key was used for another request; use a new key for a new job."""

    code = "idempotency_mismatch"


class SecretsNeededAgain(Conflict):
    """The job's secrets were wiped when it ended; send them again with the retry."""

    code = "secrets_needed_again"


class Fenced(Conflict):
    """This attempt is not the job's present one: stop, change nothing, forget its secrets."""

    code = "fenced"


class NotClaimable(Fenced):
    """The attempt cannot be claimed: taken, withdrawn, cancelled or not for this shard. Nothing ran."""

    code = "not_claimable"


class SigningSecretUnreadable(Conflict):
    """No present key opens the signing secret any more; make a new one with POST."""

    code = "signing_secret_unreadable"


class OutOfOrder(Conflict):
    """An event is missing before this batch; send again from the number expected."""

    code = "out_of_order"
