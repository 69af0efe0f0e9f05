"""Serializers of the responses of the job API."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from django.db.models import Prefetch
from django.db.models.functions import Now
from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from jobs.api.request_serializers import ConcurrencySerializer, RetryPolicySerializer
from jobs.lifecycle.listed import MAX_TEXT_BYTES, short_context, short_task
from jobs.models import Attempt, Job, KeptWork, Priority
from jobs.queue.waiting import CachedWaitExplainer, WaitExplainer
from myctobot.contract.jobs import EventKind, JobStatus, TaskType
from myctobot.contract.work import OnFailure
from shards.models import Shard

# Kinds of stored events; only a stream has the end.
STORED_KINDS: Final = [kind.value for kind in EventKind if kind != EventKind.END]


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One attempt: one message to a queue."""

    shard: serializers.SlugRelatedField[Shard] = serializers.SlugRelatedField(
        slug_field="name", read_only=True, allow_null=True
    )
    proof = serializers.DictField(read_only=True, allow_null=True, help_text="How the end of the attempt was proven.")

    class Meta:
        model = Attempt
        fields = [
            "number", "state", "queue", "shard", "sent_at", "claimed_at", "ended_at",
            "outcome", "error_code", "error_message", "proof",
        ]  # fmt: skip


class WaitingSerializer(serializers.Serializer[Any]):
    """Reason for the wait of a queued job."""

    code = serializers.CharField()
    reason = serializers.CharField()
    estimated_wait_s = serializers.IntegerField(
        allow_null=True, help_text="Seconds until it may start; null if unknown, and in lists."
    )


class UsageSerializer(serializers.Serializer[Any]):
    """Usage of the agent so far, in all attempts; unknown figures are left out."""

    turns = serializers.IntegerField(required=False)
    input_tokens = serializers.IntegerField(required=False)
    output_tokens = serializers.IntegerField(required=False)
    cost_usd = serializers.FloatField(required=False)


class TicketSerializer(serializers.Serializer[Any]):
    """A ticket for the WebSocket, with its lifetime."""

    ticket = serializers.CharField()
    expires_in_s = serializers.IntegerField()


class JobErrorSerializer(serializers.Serializer[Any]):
    """Error of a job that did not complete."""

    code = serializers.CharField()
    message = serializers.CharField()
    retryable = serializers.BooleanField()


class ListedTaskSerializer(serializers.Serializer[Any]):
    """Task of a job in a list: the fields of its request, without secrets."""

    type = serializers.ChoiceField(choices=[kind.value for kind in TaskType], required=False)
    prompt = serializers.CharField(required=False, help_text=f"The first {MAX_TEXT_BYTES} bytes of the prompt.")
    prompt_bytes = serializers.IntegerField(required=False, help_text="Size of the whole prompt, in UTF-8.")
    issue_key = serializers.CharField(required=False)
    repo_url = serializers.CharField(required=False)
    branch = serializers.CharField(required=False)
    base_branch = serializers.CharField(required=False)


class ListedContextSerializer(serializers.Serializer[Any]):
    """Context of a job in a list: the fields of its request, without secrets."""

    jira_cloud_id = serializers.CharField(required=False)
    additional_instructions = serializers.CharField(
        required=False, help_text=f"The first {MAX_TEXT_BYTES} bytes of the text."
    )
    additional_instructions_bytes = serializers.IntegerField(
        required=False, help_text="Size of the whole text, in UTF-8."
    )


class WorkSerializer(serializers.Serializer[Any]):
    """Kept work of a job: `bundle` and `patch` download it, and `push` pushes it again."""

    head = serializers.CharField(help_text="The commit that a push brings to the branch.")
    ready = serializers.BooleanField(help_text="True if the agent ended well, so that only the push is missing.")
    bundle_bytes = serializers.IntegerField()
    patch_bytes = serializers.IntegerField(help_text="0 if there is no patch.")
    expires_at = serializers.DateTimeField()


def work_rows() -> tuple[Any, Any]:
    """Return what a queryset of jobs prefetches for ``shown_work``, without the encrypted texts."""
    found = KeptWork.objects.filter(is_complete=True, expires_at__gt=Now()).defer("sealed")
    return Prefetch("kept_works", found), Prefetch("work", found)


def shown_work(job: Job) -> dict[str, Any] | None:
    """Return the work that is kept with a job, or that it pushes; None if there is none."""
    work = next(iter(job.kept_works.all()), None) or job.work
    if work is None or not work.is_complete:
        return None
    return {
        "head": work.head,
        "ready": work.is_ready,
        "bundle_bytes": work.bundle_bytes,
        "patch_bytes": work.patch_bytes,
        "expires_at": _shown_time(work.expires_at),
    }


def _concurrency_of(job: Job) -> dict[str, Any] | None:
    return {"key": job.concurrency_key, "limit": job.concurrency_limit} if job.concurrency_key else None


def _retry_of(job: Job) -> dict[str, Any]:
    return {"max_attempts": job.max_attempts, "on": job.retry_on}


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job, without any secret."""

    id = serializers.CharField(source="public_id")
    status = serializers.ChoiceField(choices=[status.value for status in JobStatus])
    priority = serializers.ChoiceField(choices=[p.label for p in Priority], source="get_priority_display")
    task = serializers.DictField()
    context = serializers.DictField()  # type: ignore[assignment]  # a field here, not the context of DRF
    result = serializers.DictField(allow_null=True)
    # The model's field may be blank, which makes the schema ambiguous.
    callback_url = serializers.CharField(read_only=True, help_text="Empty for a job without callbacks.")
    waiting = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    work = serializers.SerializerMethodField()
    on_failure = serializers.ChoiceField(choices=[handling.value for handling in OnFailure])
    retry_of: serializers.SlugRelatedField[Job] = serializers.SlugRelatedField(
        slug_field="public_id", read_only=True, allow_null=True
    )
    attempts = AttemptSerializer(many=True, read_only=True)
    events_count = serializers.SerializerMethodField()
    usage = UsageSerializer(allow_null=True, read_only=True)
    concurrency = serializers.SerializerMethodField()
    retry = serializers.SerializerMethodField()

    class Meta:
        model = Job
        fields = [
            "id", "status", "phase", "waiting", "task", "context", "capabilities", "priority", "timeout_s",
            "queue_timeout_s", "no_output_timeout_s", "not_before", "concurrency", "retry", "max_turns", "on_failure",
            "callback_url", "result", "error", "work", "usage", "cancel_requested_at", "retry_of", "attempts",
            "events_count", "created_at", "started_at", "finished_at",
        ]  # fmt: skip

    @extend_schema_field(WaitingSerializer(allow_null=True))
    def get_waiting(self, job: Job) -> dict[str, Any] | None:
        # A list has no estimates, because few readers use them and each page would pay for them.
        waiting = self._waits.explain(job, estimate=self.parent is None)
        return asdict(waiting) if waiting else None

    @cached_property
    def _waits(self) -> WaitExplainer:
        """Explain all jobs of a list as of one moment; DRF uses one serializer for all of them."""
        return WaitExplainer()

    @extend_schema_field(ConcurrencySerializer(allow_null=True))
    def get_concurrency(self, job: Job) -> dict[str, Any] | None:
        return _concurrency_of(job)

    @extend_schema_field(RetryPolicySerializer)
    def get_retry(self, job: Job) -> dict[str, Any]:
        return _retry_of(job)

    @extend_schema_field(JobErrorSerializer(allow_null=True))
    def get_error(self, job: Job) -> dict[str, Any] | None:
        if not job.error_code:
            return None
        return {"code": job.error_code, "message": job.error_message, "retryable": job.error_retryable}

    @extend_schema_field(WorkSerializer(allow_null=True))
    def get_work(self, job: Job) -> dict[str, Any] | None:
        return shown_work(job)

    def get_events_count(self, job: Job) -> int:
        return job.next_seq - 1


class ListedJobSerializer(JobSerializer):
    """A job in a list. Long texts are cut to their first KiB; read the job for the whole texts."""

    task = serializers.SerializerMethodField()  # type: ignore[assignment]  # replaces the whole text
    context = serializers.SerializerMethodField()  # type: ignore[assignment]  # as above

    @extend_schema_field(ListedTaskSerializer)
    def get_task(self, job: Job) -> dict[str, Any]:
        return short_task(job)

    @extend_schema_field(ListedContextSerializer)
    def get_context(self, job: Job) -> dict[str, Any]:
        return short_context(job)


def serialize_new_job(job: Job, waits: CachedWaitExplainer) -> dict[str, Any]:
    """Represent a job that was just stored, as ``JobSerializer`` does; a test compares each field.

    ``JobSerializer`` takes longer to represent a job than PostgreSQL needs to store it.

    Args:
        job: waits, and has no attempts and no events.
        waits: explains the wait.
    """
    waiting = waits.explain_stored(job)
    return {
        "id": job.public_id,
        "status": job.status,
        "phase": job.phase,
        "waiting": {"code": waiting.code, "reason": waiting.reason, "estimated_wait_s": waiting.estimated_wait_s},
        "task": job.task,
        "context": job.context,
        "capabilities": job.capabilities,
        "priority": Priority(job.priority).label,
        "timeout_s": job.timeout_s,
        "queue_timeout_s": job.queue_timeout_s,
        "no_output_timeout_s": job.no_output_timeout_s,
        "not_before": _shown_time(job.not_before),
        "concurrency": _concurrency_of(job),
        "retry": _retry_of(job),
        "max_turns": job.max_turns,
        "on_failure": str(job.on_failure),
        "callback_url": job.callback_url,
        "result": None,
        "error": None,
        "work": None if job.work_id is None else shown_work(job),
        "usage": None,
        "cancel_requested_at": None,
        "retry_of": None if job.retry_of is None else job.retry_of.public_id,
        "attempts": [],
        "events_count": 0,
        "created_at": _shown_time(job.created_at),
        "started_at": None,
        "finished_at": None,
    }


_TIME = serializers.DateTimeField()


def _shown_time(value: datetime | None) -> str | None:
    return None if value is None else str(_TIME.to_representation(value))


class JobPageSerializer(serializers.Serializer[Any]):
    """A page of jobs, newest first."""

    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)
    results = ListedJobSerializer(many=True)


class EventSerializer(serializers.Serializer[Any]):
    """One event of a job."""

    seq = serializers.IntegerField()
    at = serializers.DateTimeField()
    kind = serializers.ChoiceField(choices=STORED_KINDS)
    data = serializers.DictField()  # type: ignore[assignment]  # DRF's own attribute of that name is not used here


class EventPageSerializer(serializers.Serializer[Any]):
    """Events after a number, oldest first."""

    events = EventSerializer(many=True)
    next_after = serializers.IntegerField(help_text="Send this as 'after' for the next page.")
    more = serializers.BooleanField(help_text="True if more events are stored.")
    status = serializers.ChoiceField(choices=[status.value for status in JobStatus], help_text="Status of the job.")
