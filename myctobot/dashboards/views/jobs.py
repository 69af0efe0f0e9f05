"""Pages about jobs: the list, the form, the live page of a job, cancel and retry."""

from __future__ import annotations

import secrets
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from rest_framework.exceptions import ValidationError

from jobs.api.request_serializers import JobRequestSerializer, RetrySerializer
from jobs.errors import IdempotencyMismatch, JobFinished, JobNotFinished
from jobs.kept_work.storage import work_of
from jobs.lifecycle import cancel, lookup, retry, submit
from jobs.lifecycle.secrets import PURPOSES
from jobs.models import Job
from jobs.models.states import Hold
from jobs.queue.capabilities import available_capabilities
from jobs.queue.waiting import WaitExplainer, WaitStatus, key_holders, wait_status
from myctobot.api.errors import flatten
from myctobot.dashboards.forms import JobForm, RetryForm
from myctobot.dashboards.listing import STATUSES, JobFilters, read_page
from myctobot.dashboards.pages import is_htmx, may_write, member_page, writers_only
from myctobot.dashboards.views.callbacks import callbacks_of
from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.authentication import Caller, caller_name
from myctobot.tenants.secrets import usable_names


@require_GET
@member_page
def job_list(request: HttpRequest, caller: Caller) -> HttpResponse:
    """List the tenant's jobs; htmx requests only the table while a job on it is live."""
    filters = JobFilters.read(request.GET)
    page = read_page(filters, caller, request.GET)
    context = {
        "filters": filters,
        "page": page,
        "statuses": STATUSES,
        "here": request.get_full_path(),
        "waits": waits_of(page.jobs),
    }
    return render(request, "dashboards/_jobs_table.html" if is_htmx(request) else "dashboards/jobs.html", context)


def waits_of(jobs: list[Job]) -> dict[int, WaitStatus]:
    """Return the reasons and estimates of the waiting jobs of a page, all from one snapshot."""
    waits = WaitExplainer()
    waits.prefetch(jobs)
    return {job.pk: waiting for job in jobs if (waiting := waits.explain(job, estimate=True))}


@require_http_methods(["GET", "POST"])
@member_page
@writers_only
def job_new(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the form that starts a job, and start the job; ``retry_of`` names a finished job to edit."""
    old = _job_to_edit(caller, request)
    if old is not None and not old.is_over:
        return redirect("console-job", old.public_id)
    form = JobForm(
        request.POST if request.method == "POST" else None,
        initial=JobForm.initial_of(old) if old else None,
        offers=available_capabilities(caller.tenant),
        secret_names=secret_names_of(caller),
    )
    if request.method == "POST" and form.is_valid() and (job := _submit(caller, form, old)):
        return redirect("console-job", job.public_id)
    status = 400 if form.is_bound else 200
    return render(request, "dashboards/job_new.html", {"form": form, "old": old}, status=status)


def _job_to_edit(caller: Caller, request: HttpRequest) -> Job | None:
    query = request.POST if request.method == "POST" else request.GET
    public_id = query.get("retry_of", "")
    return lookup.find_job(caller.tenant, public_id) if public_id else None


def _submit(caller: Caller, form: JobForm, old: Job | None) -> Job | None:
    """Start the job like the API does, or show the errors in the form.

    Args:
        old: the job that this one repeats, edited; None for a first request.
    """
    body = form.request_body()
    if old is not None:
        # The form has no fields for these parts of the old request.
        kept = {name: value for name, value in old.context.items() if name != "additional_instructions"}
        kept |= {name: {"secret": stored} for name, stored in old.named_secrets.items() if name == "jira_token"}
        body |= {"callback_url": old.callback_url} if old.callback_url else {}
        body |= {"on_failure": old.on_failure} if old.task.get("repo_url") and body["task"].get("repo_url") else {}
        body |= {"context": {**kept, **body.get("context", {})}} if kept else {}
    try:
        wanted = JobRequestSerializer.read(body)
        return submit.submit(caller, wanted, form.cleaned_data["idempotency_key"], retry_of=old)[0]
    except ValidationError as error:
        form.add_request_errors(flatten(error.detail))
    except InvalidRequest as error:
        form.add_request_errors(error.fields or {"": [error.message]})
    except IdempotencyMismatch:
        # The user changed and sent a form that had started a job before.
        form.renew()
    except MyctobotError as error:
        form.add_error(None, error.message)
    return None


def secret_names_of(caller: Caller) -> dict[str, list[str]]:
    """Return the stored secrets that the caller may choose, by the secret's name in a request."""
    return {name: usable_names(caller.tenant, caller.role, purpose) for name, purpose in PURPOSES.items()}


def find_job_of(caller: Caller, public_id: str) -> Job:
    job = lookup.find_job(caller.tenant, public_id)
    found = Job.objects.select_related("created_by", "api_key", "retry_of").prefetch_related("attempts__shard")
    return found.get(pk=job.pk)


def _page_context(caller: Caller, job: Job) -> dict[str, Any]:
    writes = may_write(caller)
    return {
        "job": job,
        "attempts": sorted(job.attempts.all(), key=lambda attempt: -attempt.number),
        "retries": job.retries.filter(tenant=caller.tenant).order_by("pk").only("public_id", "status"),
        "waiting": wait_status(job),
        "callbacks": callbacks_of(job),
        "holders": [one for ids in key_holders([job]).values() for one in ids[:3]]
        if job.hold == Hold.CONCURRENCY
        else [],
        "can_cancel": writes and not job.is_over and job.cancel_requested_at is None,
        "can_retry": writes and job.is_over,
        "work": (work := work_of(job)),
        "can_push": writes and job.is_over and work is not None,
        "retry_key": secrets.token_urlsafe(16),
        "push_key": secrets.token_urlsafe(16),
        "last_seq": job.next_seq - 1,
    }


@require_GET
@member_page
def job_detail(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Show one job, live until it ends."""
    return render(request, "dashboards/job.html", _page_context(caller, find_job_of(caller, job_id)))


@require_GET
@member_page
def job_header(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Show the part of the job's page with its status."""
    return render(request, "dashboards/_job_header.html", _page_context(caller, find_job_of(caller, job_id)))


@require_POST
@member_page
@writers_only
def job_cancel(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Request a cancel; if the job has ended already, show its outcome."""
    try:
        cancel.cancel(caller.tenant, job_id, by=caller_name(caller))
    except JobFinished as error:
        return job_page_with_error(request, caller, job_id, error)
    return redirect("console-job", job_id)


@require_http_methods(["GET", "POST"])
@member_page
@writers_only
def job_retry(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Start the job again; a job with inline secrets needs them again."""
    old = find_job_of(caller, job_id)
    sent = request.method == "POST" and (not old.inline_secrets or "secrets" in request.POST)
    form = RetryForm(request.POST if sent else None, wanted=old.inline_secrets, secret_names=secret_names_of(caller))
    if form.is_valid():
        try:
            return redirect("console-job", _retry(caller, old, form).public_id)
        except ValidationError as error:
            add_secret_errors(form, flatten(error.detail))
        except IdempotencyMismatch:
            form.renew()
        except MyctobotError as error:
            # Show the job's page when the form could not solve the problem.
            if not old.inline_secrets or isinstance(error, JobNotFinished):
                return job_page_with_error(request, caller, job_id, error)
            add_secret_errors(
                form, (error.fields if isinstance(error, InvalidRequest) else {}) or {"": [error.message]}
            )
    status = 400 if form.is_bound else 200
    return render(request, "dashboards/job_retry.html", {"job": old, "form": form}, status=status)


def _retry(caller: Caller, old: Job, form: RetryForm) -> Job:
    """Start the job again like the API does."""
    body = RetrySerializer(data=form.secret_sources())
    body.is_valid(raise_exception=True)
    key = form.cleaned_data["idempotency_key"] or None
    return retry.retry(caller, old.public_id, dict(body.validated_data), key)[0]


def add_secret_errors(form: RetryForm, problems: dict[str, list[str]]) -> None:
    for name, sentences in problems.items():
        field = name if name in form.fields else None
        for sentence in sentences:
            form.add_error(field, sentence if field or not name else f"{name}: {sentence}")


def job_page_with_error(request: HttpRequest, caller: Caller, job_id: str, error: MyctobotError) -> HttpResponse:
    sentences = [text for texts in error.fields.values() for text in texts] if isinstance(error, InvalidRequest) else []
    facts = {**_page_context(caller, find_job_of(caller, job_id)), "refused": sentences or [error.message]}
    return render(request, "dashboards/job.html", facts, status=error.http_status)
