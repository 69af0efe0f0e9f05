"""Views of the kept work of a job: download it, and push it again."""

from __future__ import annotations

from typing import Final

from django.db import connection
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from jobs.api.negotiation import AnyAccept
from jobs.api.request_serializers import PushSerializer
from jobs.api.response_serializers import JobSerializer
from jobs.api.views import IDEMPOTENCY_KEY, SUBMIT_ERRORS, idempotency_key_of, start_response
from jobs.api.work_download import download
from jobs.errors import JobNotFinished, NoModelAccess, SecretsRequired, UnknownJob, UnknownWork
from jobs.kept_work.storage import work_of
from jobs.lifecycle import lookup, push
from jobs.models import Job
from myctobot.api.parameters import ApiView
from myctobot.contract.work import WorkFile
from myctobot.tenants.authentication import caller_of

_TYPES: Final = {WorkFile.BUNDLE: "application/x-git-bundle", WorkFile.PATCH: "text/x-diff"}


def work_response(job: Job, file: WorkFile) -> StreamingHttpResponse:
    """Return a file of a job's kept work as a download.

    Raises:
        UnknownWork: the job has no kept work, it has expired, or it has no such file.
    """
    work = work_of(job)
    if work is None or (file is WorkFile.PATCH and work.patch_bytes == 0):
        raise UnknownWork
    # A client may take minutes to read it and must not hold a database connection.
    connection.close()
    return StreamingHttpResponse(
        download(work.pk, file.value),
        content_type=_TYPES[file],
        headers={
            "Content-Disposition": f'attachment; filename="{job.public_id}.{file.value}"',
            # An agent wrote it, so no browser may show it as a page of ours.
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        },
    )


class JobPush(ApiView):
    """Push the kept work of a finished job again."""

    errors = {
        "POST": (
            *(error for error in SUBMIT_ERRORS if error is not NoModelAccess),
            *(UnknownJob, UnknownWork, JobNotFinished, SecretsRequired),
        )
    }

    @extend_schema(
        operation_id="jobs_push",
        description="Start a job that pushes the kept work of this one to the same branch. No agent runs.",
        parameters=[IDEMPOTENCY_KEY],
        request=PushSerializer,
        responses={
            201: JobSerializer,
            200: OpenApiResponse(JobSerializer, "The job that an earlier call with this key started."),
        },
    )
    def post(self, request: Request, job_id: str) -> Response:
        body = PushSerializer(data=request.data or {})
        body.is_valid(raise_exception=True)
        caller, key = caller_of(request), idempotency_key_of(request)
        job, created = push.push_again(caller, job_id, dict(body.validated_data), key)
        return start_response(request, job, created=created)


class JobBundle(ApiView):
    """Kept commits of a job."""

    content_negotiation_class = AnyAccept
    errors = {"GET": (UnknownJob, UnknownWork)}

    @extend_schema(
        operation_id="jobs_bundle",
        description="The kept commits, for `git fetch` (https://git-scm.com/docs/git-bundle).",
        responses={(200, _TYPES[WorkFile.BUNDLE]): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        return work_response(lookup.find_job(caller_of(request).tenant, job_id), WorkFile.BUNDLE)


class JobPatch(ApiView):
    """Kept changes of a job."""

    content_negotiation_class = AnyAccept
    errors = {"GET": (UnknownJob, UnknownWork)}

    @extend_schema(
        operation_id="jobs_patch",
        description="The kept changes since the base branch, for `git apply`.",
        responses={(200, _TYPES[WorkFile.PATCH]): OpenApiTypes.BINARY},
    )
    def get(self, request: Request, job_id: str) -> StreamingHttpResponse:
        return work_response(lookup.find_job(caller_of(request).tenant, job_id), WorkFile.PATCH)
