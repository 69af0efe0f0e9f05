"""Views of ``/api/v1/jobs``: create, list, read, cancel, retry, events and the live stream."""

from __future__ import annotations

from typing import Any, Final

from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from jobs.api.fast_submit import IDEMPOTENCY_HEADER, MAX_IDEMPOTENCY_KEY, answer_plain_submit
from jobs.api.negotiation import AnyAccept
from jobs.api.request_serializers import JobRequestSerializer, RetrySerializer
from jobs.api.response_serializers import (
    EventPageSerializer,
    JobPageSerializer,
    JobSerializer,
    ListedJobSerializer,
    TicketSerializer,
    serialize_new_job,
    work_rows,
)
from jobs.errors import (
    IdempotencyMismatch,
    JobFinished,
    JobNotFinished,
    NoEligibleShard,
    NoModelAccess,
    QueueLimitReached,
    SecretsRequired,
    UnknownJob,
)
from jobs.events.encoding import page_of
from jobs.events.reader import PAGE_BYTES, read_page_of_lines
from jobs.lifecycle import cancel, lookup, retry, submit
from jobs.lifecycle.admission import WaitingLimit
from jobs.lifecycle.listed import MAX_TEXT_BYTES, with_short_texts
from jobs.models import Job
from jobs.queue.waiting import CachedWaitExplainer
from jobs.streaming.access import TICKET_LIFE_S, WatchAccess, make_ticket
from jobs.streaming.download import download
from jobs.streaming.sse import HEADERS, follow, has_end
from myctobot.api.pagination import PAGED, PAGES, Pages
from myctobot.api.parameters import ApiView, Choice, WholeNumber
from myctobot.contract.jobs import JobStatus
from myctobot.errors import InvalidRequest
from myctobot.tenants.authentication import Caller, caller_name, caller_of
from myctobot.tenants.secrets import SecretNotAllowed, UnknownSecret
from myctobot.web.process_caches import process_caches

_MAX_SEQ: Final = 2**53
_STATUS: Final = Choice("status", [status.value for status in JobStatus], description="Only jobs with this status.")
_AFTER: Final = WholeNumber("after", 0, _MAX_SEQ, 0, description="Number of the last event that the caller has.")
_EVENTS_LIMIT: Final = WholeNumber("limit", 1, 1000, 200, description="Maximum number of events.")
_LAST_EVENT_ID: Final = WholeNumber(
    "Last-Event-ID",
    0,
    _MAX_SEQ,
    0,
    location=OpenApiParameter.HEADER,
    description="Id of the last event that the caller has. It counts instead of `after`.",
)
IDEMPOTENCY_KEY: Final = OpenApiParameter(
    IDEMPOTENCY_HEADER,
    {"type": "string", "minLength": 1, "maxLength": MAX_IDEMPOTENCY_KEY},
    OpenApiParameter.HEADER,
    description="A repeated call with the same key returns the job that the first one started.",
)
# Errors of the calls that start a job.
SUBMIT_ERRORS: Final = (
    NoEligibleShard,
    NoModelAccess,
    UnknownSecret,
    SecretNotAllowed,
    IdempotencyMismatch,
    QueueLimitReached,
)


def access_of(request: Request) -> WatchAccess:
    """Return the key or the session that lets the caller watch jobs."""
    return WatchAccess.for_caller(caller_of(request), request.session.session_key)


def jobs_of(caller: Caller) -> QuerySet[Job]:
    """Return the jobs of the caller's tenant, with the rows that their representation needs."""
    return (
        Job.objects.filter(tenant=caller.tenant)
        .select_related("retry_of")
        .prefetch_related("attempts__shard", *work_rows())
    )


def _represent(caller: Caller, job: Job) -> dict[str, Any]:
    return dict(JobSerializer(jobs_of(caller).get(pk=job.pk)).data)


def idempotency_key_of(request: Request) -> str | None:
    """Return the key that makes a repeated call harmless; None if the request has none.

    Raises:
        InvalidRequest: the key is empty or too long.
    """
    key = request.headers.get(IDEMPOTENCY_HEADER)
    if key is not None and not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY:
        raise InvalidRequest(fields={IDEMPOTENCY_HEADER: [f"Must have 1 to {MAX_IDEMPOTENCY_KEY} characters."]})
    return key


def start_response(request: Request, job: Job, *, created: bool) -> Response:
    """Return the answer to a call that started a job, or found the job that its idempotency key had started."""
    if created:
        shown = serialize_new_job(job, process_caches(request).get(CachedWaitExplainer))
    else:
        shown = _represent(caller_of(request), job)
    return Response(
        shown,
        status=status.HTTP_201_CREATED if created else status.HTTP_200_OK,
        headers={"Location": f"/api/v1/jobs/{job.public_id}"},
    )


class JobList(ApiView):
    """The tenant's jobs."""

    errors = {"POST": SUBMIT_ERRORS}
    query = {"GET": (_STATUS, *PAGED)}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return answer_plain_submit(request, self) or super().dispatch(request, *args, **kwargs)

    @extend_schema(
        operation_id="jobs_list",
        description=f"The tenant's jobs, newest first. Texts are cut to their first {MAX_TEXT_BYTES} bytes. {PAGES}",
        responses=JobPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        rows = with_short_texts(jobs_of(caller_of(request)))
        if (wanted := _STATUS.read(request.query_params)) is not None:
            rows = rows.filter(status=wanted)
        return Pages().respond(rows, request, ListedJobSerializer)

    @extend_schema(
        operation_id="jobs_create",
        description="Start a job. It runs as soon as a shard that may run it has a free slot.",
        parameters=[IDEMPOTENCY_KEY],
        request=JobRequestSerializer,
        responses={
            201: JobSerializer,
            200: OpenApiResponse(JobSerializer, "The job that an earlier call with this key started."),
        },
    )
    def post(self, request: Request) -> Response:
        job, created = submit.submit(
            caller_of(request),
            JobRequestSerializer.read(request.data),
            idempotency_key_of(request),
            waiting_limit=process_caches(request).get(WaitingLimit),
        )
        return start_response(request, job, created=created)


class JobDetail(ApiView):
    """One job."""

    errors = {"GET": (UnknownJob,)}

    @extend_schema(operation_id="jobs_read", responses=JobSerializer)
    def get(self, request: Request, job_id: str) -> Response:
        caller = caller_of(request)
        return Response(_represent(caller, lookup.find_job(caller.tenant, job_id)))


class JobCancel(ApiView):
    """Cancel a job."""

    errors = {"POST": (UnknownJob, JobFinished)}

    @extend_schema(operation_id="jobs_cancel", request=None, responses={200: JobSerializer, 202: JobSerializer})
    def post(self, request: Request, job_id: str) -> Response:
        caller = caller_of(request)
        job = cancel.cancel(caller.tenant, job_id, by=caller_name(caller))
        code = status.HTTP_200_OK if job.is_over else status.HTTP_202_ACCEPTED
        return Response(_represent(caller, job), status=code)


class JobRetry(ApiView):
    """Start a new job with the request of a finished one."""

    errors = {"POST": (*SUBMIT_ERRORS, UnknownJob, JobNotFinished, SecretsRequired)}

    @extend_schema(
        operation_id="jobs_retry",
        parameters=[IDEMPOTENCY_KEY],
        request=RetrySerializer,
        responses={
            201: JobSerializer,
            200: OpenApiResponse(JobSerializer, "The job that an earlier call with this key started."),
        },
    )
    def post(self, request: Request, job_id: str) -> Response:
        body = RetrySerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        job, created = retry.retry(caller_of(request), job_id, dict(body.validated_data), idempotency_key_of(request))
        return start_response(request, job, created=created)


class JobEvents(ApiView):
    """A job's stored events after a number."""

    errors = {"GET": (UnknownJob,)}
    query = {"GET": (_AFTER, _EVENTS_LIMIT)}

    @extend_schema(
        operation_id="jobs_events",
        description=f"Stored events. A page ends at `limit` events or {PAGE_BYTES // 1024} KiB, with at least one "
        "event; continue with `next_after` while `more` is true.",
        responses=EventPageSerializer,
    )
    def get(self, request: Request, job_id: str) -> HttpResponse:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        after = _AFTER.read(request.query_params)
        limit = _EVENTS_LIMIT.read(request.query_params)
        page = page_of(read_page_of_lines(job.pk, after, limit), after, job.next_seq - 1, job.status)
        return HttpResponse(page, content_type=JSONRenderer.media_type)


class JobDownload(ApiView):
    """File with all stored events of a job."""

    content_negotiation_class = AnyAccept
    errors = {"GET": (UnknownJob,)}

    @extend_schema(
        operation_id="jobs_download",
        description="All stored events, one JSON object a line (https://jsonlines.org).",
        responses={(200, "application/jsonl"): OpenApiTypes.STR},
    )
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        # A client may take minutes to read it and must not hold a database connection.
        connection.close()
        return StreamingHttpResponse(
            download(job.pk),
            content_type="application/jsonl",
            headers={"Content-Disposition": f'attachment; filename="{job.public_id}.jsonl"'},
        )


class JobTicket(ApiView):
    """A ticket to watch one job."""

    only_reads = True
    errors = {"POST": (UnknownJob,)}

    @extend_schema(
        operation_id="jobs_ticket",
        description="A ticket that opens the job's WebSocket, because a browser can send no header there.",
        request=None,
        responses=TicketSerializer,
    )
    def post(self, request: Request, job_id: str) -> Response:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        ticket = {"ticket": make_ticket(access_of(request), job.public_id), "expires_in_s": TICKET_LIFE_S}
        return Response(ticket, headers={"Cache-Control": "no-store"})


class JobStream(ApiView):
    """A job's live events, by Server-Sent Events."""

    errors = {"GET": (UnknownJob,)}
    query = {"GET": (_AFTER,)}
    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="jobs_stream",
        description="All events after a number as they come, and then `end`. A client that has `end` gets 204.",
        parameters=[_LAST_EVENT_ID],
        responses={
            # Clients parse the stream, so its type is not that of a text.
            (200, "text/event-stream"): OpenApiResponse(
                OpenApiTypes.ANY,
                "Server-Sent Events. `data` of each is an `Event`, and that of `end` has its count and status.",
            ),
            204: OpenApiResponse(description="`Last-Event-ID` is that of `end`: do not connect again."),
        },
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        after = _AFTER.read(request.query_params)
        # After a broken connection the header of the browser is newer than the URL.
        if request.headers.get(_LAST_EVENT_ID.name):
            after = _LAST_EVENT_ID.read(request.headers)
            if has_end(job, after):
                return HttpResponse(status=status.HTTP_204_NO_CONTENT)
        stream = follow(job, after, access_of(request))
        # A viewer may stay for hours and must not hold a database connection.
        connection.close()
        return StreamingHttpResponse(stream, content_type="text/event-stream", headers=HEADERS)
