"""The pages about jobs: the list, the form, one job live, cancel and retry."""

from __future__ import annotations

import secrets
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from rest_framework.exceptions import ValidationError

from jobs.api.request_serializers import JobRequestSerializer, RetrySerializer
from jobs.errors import IdempotencyMismatch, JobIsNotOver, JobIsOver
from jobs.lifecycle import submit as requests
from jobs.models.job import Job
from jobs.models.states import Hold
from jobs.queue.capabilities import offered_capabilities
from jobs.queue.waiting import Waiting, Waits, key_holders, waiting_of
from myctobot.api.errors import flatten
from myctobot.dashboards.forms import JobForm, RetryForm
from myctobot.dashboards.listing import STATUSES, Filters, read_page
from myctobot.dashboards.pages import is_htmx, may_write, member_page, writers_only
from myctobot.dashboards.views.callbacks import callbacks_of
from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import Secret


@require_GET
@member_page
def job_list(request: HttpRequest, caller: Caller) -> HttpResponse:
    """The tenant's jobs; htmx asks for the table alone while anything on it is live."""
    filters = Filters.read(request.GET)
    page = read_page(filters, caller, request.GET)
    context = {
        "filters": filters,
        "page": page,
        "statuses": STATUSES,
        "here": request.get_full_path(),
        "waits": waits_of(page.jobs),
    }
    return render(request, "dashboards/_jobs_table.html" if is_htmx(request) else "dashboards/jobs.html", context)


def waits_of(jobs: list[Job]) -> dict[int, Waiting]:
    """Why the waiting jobs of a page wait, and for how long still, as of one moment."""
    waits = Waits()
    waits.expect(jobs)
    return {job.pk: waiting for job in jobs if (waiting := waits.of(job, estimate=True))}


@require_http_methods(["GET", "POST"])
@member_page
@writers_only
def job_new(request: HttpRequest, caller: Caller) -> HttpResponse:
    """The form that starts a job."""
    form = JobForm(
        request.POST if request.method == "POST" else None,
        offers=offered_capabilities(caller.tenant),
        secret_names=_secret_names(caller),
    )
    if request.method == "POST" and form.is_valid() and (job := _submit(caller, form)):
        return redirect("console-job", job.public_id)
    status = 400 if form.is_bound else 200
    return render(request, "dashboards/job_new.html", {"form": form}, status=status)


def _submit(caller: Caller, form: JobForm) -> Job | None:
    """Start the job as the API would, or show in the form what is against it."""
    try:
        wanted = JobRequestSerializer.read(form.request_body())
        return requests.submit(caller, wanted, form.cleaned_data["idempotency_key"])[0]
    except ValidationError as error:
        form.refuse(flatten(error.detail))
    except InvalidRequest as error:
        form.refuse(error.fields or {"": [error.message]})
    except IdempotencyMismatch:
        # Somebody went back, or stopped the page while it was sent, and changed something.
        form.renew()
    except MyctobotError as error:
        form.add_error(None, error.message)
    return None


def _secret_names(caller: Caller) -> list[str]:
    return list(Secret.objects.filter(tenant=caller.tenant).order_by("name").values_list("name", flat=True))


def _job(caller: Caller, public_id: str) -> Job:
    job = requests.find_job(caller.tenant, public_id)
    found = Job.objects.select_related("created_by", "api_key", "retry_of").prefetch_related("attempts__shard")
    return found.get(pk=job.pk)


def _facts(caller: Caller, job: Job) -> dict[str, Any]:
    writes = may_write(caller)
    return {
        "job": job,
        "attempts": sorted(job.attempts.all(), key=lambda attempt: -attempt.number),
        "retries": job.retries.filter(tenant=caller.tenant).order_by("pk").only("public_id", "status"),
        "waiting": waiting_of(job),
        "callbacks": callbacks_of(job),
        "holders": [one for ids in key_holders([job]).values() for one in ids[:3]] if job.hold == Hold.KEY else [],
        "can_cancel": writes and not job.is_over and job.cancel_requested_at is None,
        "can_retry": writes and job.is_over,
        "retry_key": secrets.token_urlsafe(16),
        "last_seq": job.next_seq - 1,
    }


@require_GET
@member_page
def job_detail(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """One job, live while it goes on."""
    return render(request, "dashboards/job.html", _facts(caller, _job(caller, job_id)))


@require_GET
@member_page
def job_header(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """The part of the job's page that says how it stands."""
    return render(request, "dashboards/_job_header.html", _facts(caller, _job(caller, job_id)))


@require_POST
@member_page
@writers_only
def job_cancel(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Ask for a cancel; one that comes too late changes nothing, and the page says how the job ended."""
    try:
        requests.cancel(caller.tenant, job_id)
    except JobIsOver as error:
        return _job_page(request, caller, job_id, error)
    return redirect("console-job", job_id)


@require_http_methods(["GET", "POST"])
@member_page
@writers_only
def job_retry(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Start the job again; one that came with secrets of its own needs them again."""
    old = _job(caller, job_id)
    sent = request.method == "POST" and (not old.inline_secrets or "secrets" in request.POST)
    form = RetryForm(request.POST if sent else None, wanted=old.inline_secrets, secret_names=_secret_names(caller))
    if form.is_valid():
        try:
            return redirect("console-job", _retry(caller, old, form).public_id)
        except ValidationError as error:
            _refuse_retry(form, flatten(error.detail))
        except IdempotencyMismatch:
            form.renew()
        except MyctobotError as error:
            # Where there is nothing to fill in, another form would be no help.
            if not old.inline_secrets or isinstance(error, JobIsNotOver):
                return _job_page(request, caller, job_id, error)
            _refuse_retry(form, (error.fields if isinstance(error, InvalidRequest) else {}) or {"": [error.message]})
    status = 400 if form.is_bound else 200
    return render(request, "dashboards/job_retry.html", {"job": old, "form": form}, status=status)


def _retry(caller: Caller, old: Job, form: RetryForm) -> Job:
    """Start the job again as the API would."""
    body = RetrySerializer(data=form.secret_sources())
    body.is_valid(raise_exception=True)
    key = form.cleaned_data["idempotency_key"] or None
    return requests.retry(caller, old.public_id, dict(body.validated_data), key)[0]


def _refuse_retry(form: RetryForm, problems: dict[str, list[str]]) -> None:
    for name, sentences in problems.items():
        field = name if name in form.fields else None
        for sentence in sentences:
            form.add_error(field, sentence if field or not name else f"{name}: {sentence}")


def _job_page(request: HttpRequest, caller: Caller, job_id: str, error: MyctobotError) -> HttpResponse:
    sentences = [text for texts in error.fields.values() for text in texts] if isinstance(error, InvalidRequest) else []
    facts = {**_facts(caller, _job(caller, job_id)), "refused": sentences or [error.message]}
    return render(request, "dashboards/job.html", facts, status=error.http_status)
