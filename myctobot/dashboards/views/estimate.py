"""The line beside the form's button: when the job would start."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from jobs.api.estimate_views import EstimateRequestSerializer
from jobs.waiting import Waits
from myctobot.dashboards.pages import member_page, writers_only
from myctobot.tenants.authentication import Caller


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
    return render(request, "dashboards/_estimate.html", {"waiting": waiting})
