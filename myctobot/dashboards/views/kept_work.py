"""Button that pushes the kept work of a finished job again."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods
from rest_framework.exceptions import ValidationError

from jobs.api.request_serializers import PushSerializer
from jobs.errors import IdempotencyMismatch
from jobs.lifecycle.push import push_again
from jobs.models import Job
from myctobot.api.errors import flatten
from myctobot.dashboards.forms import RetryForm
from myctobot.dashboards.pages import member_page, writers_only
from myctobot.dashboards.views.jobs import add_secret_errors, find_job_of, job_page_with_error, secret_names_of
from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.authentication import Caller


@require_http_methods(["GET", "POST"])
@member_page
@writers_only
def job_push(request: HttpRequest, caller: Caller, job_id: str) -> HttpResponse:
    """Push the kept work of a job again; a token that came with its request is needed again."""
    old = find_job_of(caller, job_id)
    wanted = [name for name in old.inline_secrets if name == "repo_token"]
    sent = request.method == "POST" and (not wanted or "secrets" in request.POST)
    form = RetryForm(request.POST if sent else None, wanted=wanted, secret_names=secret_names_of(caller))
    if form.is_valid():
        try:
            return redirect("console-job", _push(caller, old, form).public_id)
        except ValidationError as error:
            add_secret_errors(form, flatten(error.detail))
        except IdempotencyMismatch:
            form.renew()
        except MyctobotError as error:
            # Show the job's page when the form could not solve the problem.
            if not wanted or not isinstance(error, InvalidRequest):
                return job_page_with_error(request, caller, job_id, error)
            add_secret_errors(form, error.fields or {"": [error.message]})
    context = {"job": old, "form": form, "is_push": True}
    return render(request, "dashboards/job_retry.html", context, status=400 if form.is_bound else 200)


def _push(caller: Caller, old: Job, form: RetryForm) -> Job:
    body = PushSerializer(data=form.secret_sources())
    body.is_valid(raise_exception=True)
    key = form.cleaned_data["idempotency_key"] or None
    return push_again(caller, old.public_id, dict(body.validated_data), key)[0]
