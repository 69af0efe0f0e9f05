"""Views of ``/api/v1/jobs``: create, list, read, cancel, retry, events and the live stream."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from jobs.api.fast_submit import IDEMPOTENCY_HEADER, MAX_IDEMPOTENCY_KEY, answer_plain_submit
from jobs.api.negotiation import AnyAccept
from jobs.api.request_serializers import JobRequestSerializer, RetrySerializer
from jobs.api.response_serializers import (
    EventPageSerializer,
    JobPageSerializer,
    JobSerializer,
    TicketSerializer,
    serialize_new_job,
)
from jobs.events.encoding import page_of
from jobs.events.reader import PAGE_BYTES, read_page_of_lines
from jobs.lifecycle import cancel, lookup, retry, submit
from jobs.lifecycle.admission import WaitingLimit
from jobs.models import Job
from jobs.queue.waiting import CachedWaitExplainer
from jobs.streaming.access import TICKET_LIFE_S, WatchAccess, make_ticket
from jobs.streaming.download import download
from jobs.streaming.sse import HEADERS, follow, has_end
from myctobot.api.pagination import PAGES, Pages, parse_whole_number, whole_number
from myctobot.contract.jobs import JobStatus
from myctobot.errors import InvalidRequest
from myctobot.tenants.authentication import Caller, caller_of
from myctobot.web.process_caches import process_caches

_MAX_PAGE = 1000
_MAX_SEQ = 2**53


def access_of(request: Request) -> WatchAccess:
    """Return the key or the session that lets the caller watch jobs."""
    return WatchAccess.for_caller(caller_of(request), request.session.session_key)


def jobs_of(caller: Caller) -> QuerySet[Job]:
    """Return the jobs of the caller's tenant, with the rows that their representation needs."""
    return Job.objects.filter(tenant=caller.tenant).select_related("retry_of").prefetch_related("attempts__shard")


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


def _start_response(request: Request, job: Job, *, created: bool) -> Response:
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


class JobList(APIView):
    """The tenant's jobs."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return answer_plain_submit(request, self) or super().dispatch(request, *args, **kwargs)

    @extend_schema(
        operation_id="jobs_list",
        description=f"The tenant's jobs, newest first. {PAGES}",
        parameters=[
            OpenApiParameter("status", str, enum=[s.value for s in JobStatus]),
            OpenApiParameter("cursor", str),
            OpenApiParameter("limit", int),
        ],
        responses=JobPageSerializer,
    )
    def get(self, request: Request) -> HttpResponse:
        rows = jobs_of(caller_of(request))
        if wanted := request.query_params.get("status"):
            if wanted not in set(JobStatus):
                raise InvalidRequest(fields={"status": [f"Must be one of: {', '.join(JobStatus)}."]})
            rows = rows.filter(status=wanted)
        return Pages().respond(rows, request, JobSerializer)

    @extend_schema(
        operation_id="jobs_create",
        description="Start a job. It runs as soon as a shard that may run it has a free slot.",
        parameters=[OpenApiParameter(IDEMPOTENCY_HEADER, str, OpenApiParameter.HEADER)],
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
        return _start_response(request, job, created=created)


class JobDetail(APIView):
    """One job."""

    @extend_schema(operation_id="jobs_read", responses=JobSerializer)
    def get(self, request: Request, job_id: str) -> Response:
        caller = caller_of(request)
        return Response(_represent(caller, lookup.find_job(caller.tenant, job_id)))


class JobCancel(APIView):
    """Cancel a job."""

    @extend_schema(operation_id="jobs_cancel", request=None, responses={200: JobSerializer, 202: JobSerializer})
    def post(self, request: Request, job_id: str) -> Response:
        caller = caller_of(request)
        job = cancel.cancel(caller.tenant, job_id)
        code = status.HTTP_200_OK if job.is_over else status.HTTP_202_ACCEPTED
        return Response(_represent(caller, job), status=code)


class JobRetry(APIView):
    """Start a new job with the request of a finished one."""

    @extend_schema(
        operation_id="jobs_retry",
        parameters=[OpenApiParameter(IDEMPOTENCY_HEADER, str, OpenApiParameter.HEADER)],
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
        return _start_response(request, job, created=created)


class JobEvents(APIView):
    """A job's stored events after a number."""

    @extend_schema(
        operation_id="jobs_events",
        description=f"Stored events. A page ends at `limit` events or {PAGE_BYTES // 1024} KiB, with at least one "
        "event; continue with `next_after` while `more` is true.",
        parameters=[OpenApiParameter("after", int), OpenApiParameter("limit", int)],
        responses=EventPageSerializer,
    )
    def get(self, request: Request, job_id: str) -> HttpResponse:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        after = whole_number(request, "after", 0, _MAX_SEQ)
        limit = max(1, whole_number(request, "limit", 200, _MAX_PAGE))
        page = page_of(read_page_of_lines(job.pk, after, limit), after, job.next_seq - 1, job.status)
        return HttpResponse(page, content_type=JSONRenderer.media_type)


class JobDownload(APIView):
    """File with all stored events of a job."""

    content_negotiation_class = AnyAccept

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


class JobTicket(APIView):
    """A ticket to watch one job."""

    only_reads = True

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


class JobStream(APIView):
    """A job's live events, by Server-Sent Events."""

    content_negotiation_class = AnyAccept

    @extend_schema(
        operation_id="jobs_stream",
        description="All events after a number as they come, and then `end`. A client that has `end` gets 204.",
        parameters=[
            OpenApiParameter("after", int),
            OpenApiParameter("Last-Event-ID", int, OpenApiParameter.HEADER),
        ],
        responses={
            (200, "text/event-stream"): OpenApiTypes.STR,
            204: OpenApiResponse(description="`Last-Event-ID` is that of `end`: do not connect again."),
        },
    )
    def get(self, request: Request, job_id: str) -> HttpResponseBase:
        job = lookup.find_job(caller_of(request).tenant, job_id)
        after = whole_number(request, "after", 0, _MAX_SEQ)
        # After a broken connection the header of the browser is newer than the URL.
        if resumed := request.headers.get("Last-Event-ID"):
            after = parse_whole_number("Last-Event-ID", resumed, _MAX_SEQ)
            if has_end(job, after):
                return HttpResponse(status=status.HTTP_204_NO_CONTENT)
        stream = follow(job, after, access_of(request))
        # A viewer may stay for hours and must not hold a database connection.
        connection.close()
        return StreamingHttpResponse(stream, content_type="text/event-stream", headers=HEADERS)
