"""The line beside the form's button: when the job would start."""

from __future__ import annotations

from typing import Final

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from jobs.api.estimate_views import EstimateRequestSerializer
from jobs.waiting import Waiting, Waits
from myctobot.dashboards.forms import JobForm
from myctobot.dashboards.pages import member_page, writers_only
from myctobot.tenants.authentication import Caller

# For these a job would be refused.
NEVER: Final = frozenset({"capability_missing", "no_shard"})


@require_GET
@member_page
@writers_only
def job_estimate(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Say when a job would start; nothing where the form has no sensible answer yet."""
    asked = {"capabilities": request.GET.getlist("capabilities"), "priority": request.GET.get("priority", "normal")}
    body = EstimateRequestSerializer(data=asked)
    waiting = None
    if body.is_valid():
        waiting = Waits().newcomer(caller.tenant, body.validated_data["capabilities"], body.priority_value)
        waiting = _parked(waiting, request.GET.get("not_before", ""))
    return render(request, "dashboards/_estimate.html", {"waiting": waiting, "never": NEVER})


def _parked(waiting: Waiting, until: str) -> Waiting:
    """What a job hears that may not start before a time, as the form has it; one that is past changes nothing."""
    try:
        at = JobForm.base_fields["not_before"].clean(until)
    except ValidationError:
        return waiting
    pause_s = (at - timezone.now()).total_seconds() if at else 0
    if pause_s <= 0 or waiting.code in NEVER:
        return waiting
    wait_s = max(round(pause_s), waiting.estimated_wait_s or 0)
    return Waiting("parked", f"It is not to start before {at:%Y-%m-%d %H:%M} UTC.", wait_s)
