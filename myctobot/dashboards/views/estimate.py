"""Estimate of a job's start, shown next to the button of the form."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from jobs.api.estimate_views import EstimateRequestSerializer
from jobs.lifecycle.job_request import key_of_branch
from jobs.models import Job
from jobs.queue.waiting import WaitExplainer, WaitStatus, key_holders
from myctobot.dashboards.forms import JobForm
from myctobot.dashboards.pages import member_page, writers_only
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import Tenant

# The API refuses a job for these reasons.
NEVER: Final = frozenset({"capability_missing", "no_shard"})


@require_GET
@member_page
@writers_only
def job_estimate(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Estimate when the job would start; return an empty line while the form is invalid."""
    data = {"capabilities": request.GET.getlist("capabilities"), "priority": request.GET.get("priority", "normal")}
    body = EstimateRequestSerializer(data=data)
    waiting = None
    if body.is_valid():
        waiting = WaitExplainer().new_job(caller.tenant, body.validated_data["capabilities"], body.priority_value)
        if waiting.code not in NEVER:
            waiting = _delayed_status(waiting, request.GET) or _key_busy_status(caller.tenant, request.GET) or waiting
    return render(request, "dashboards/_estimate.html", {"waiting": waiting, "never": NEVER})


def _given(query: QueryDict, name: str) -> Any:
    """Return the form's value of a field; None when it is empty or invalid."""
    try:
        return JobForm.base_fields[name].clean(query.get(name, "")) or None
    except ValidationError:
        return None


def _delayed_status(waiting: WaitStatus, query: QueryDict) -> WaitStatus | None:
    """Return the wait of a job whose start time is in the future, else None."""
    at = _given(query, "not_before")
    pause_s = (at - timezone.now()).total_seconds() if at else 0
    if pause_s <= 0:
        return None
    wait_s = max(round(pause_s), waiting.estimated_wait_s or 0)
    return WaitStatus("parked", f"The job starts at {at:%Y-%m-%d %H:%M} UTC at the earliest.", wait_s)


def _key_busy_status(tenant: Tenant, query: QueryDict) -> WaitStatus | None:
    """Return the wait of a job whose concurrency key is at its limit, without an estimate, else None."""
    branch = {name: _given(query, name) for name in ("repo_url", "branch")}
    key = _given(query, "concurrency_key") or key_of_branch(branch)
    # The limit applies only to an explicit key.
    limit = (_given(query, "concurrency_key") and _given(query, "concurrency_limit")) or 1
    running = len(key_holders([Job(tenant=tenant, concurrency_key=key)]).get((tenant.pk, key), [])) if key else 0
    if running < limit:
        return None
    relation = "with this concurrency key" if _given(query, "concurrency_key") else "that pushes to this branch"
    others = f"Another job {relation} runs" if limit == 1 else f"{running} of at most {limit} jobs {relation} run"
    return WaitStatus("key_busy", f"{others} now.")
