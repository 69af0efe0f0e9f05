"""Callbacks of a job on its page, and the button that sends one again."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from jobs import broker
from jobs.api.callback_views import find_callback
from jobs.callbacks.delivery import redeliver
from jobs.callbacks.models import Callback
from jobs.models import Job
from myctobot.dashboards.pages import member_page, writers_only
from myctobot.tenants.authentication import Caller, caller_name


def callbacks_of(job: Job) -> list[Callback]:
    """Return the job's callbacks with their deliveries, latest first; none without a callback URL."""
    if not job.callback_url:
        return []
    return list(Callback.objects.filter(job=job).prefetch_related("deliveries").order_by("-pk"))


@require_POST
@member_page
@writers_only
def callback_resend(request: HttpRequest, caller: Caller, job_id: str, callback_id: str) -> HttpResponse:
    """Send a callback again; the page then shows the new delivery."""
    redeliver(find_callback(caller, job_id, callback_id), by=caller_name(caller))
    broker.request_delivery()
    return redirect("console-job", job_id)
