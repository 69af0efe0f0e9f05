"""The line beside the form's button: when the job would start."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from jobs.api.estimate_views import EstimateRequestSerializer
from jobs.lifecycle.submit import key_of_branch
from jobs.models.job import Job
from jobs.queue.waiting import Waiting, Waits, key_holders
from myctobot.dashboards.forms import JobForm
from myctobot.dashboards.pages import member_page, writers_only
from myctobot.tenants.authentication import Caller
from myctobot.tenants.models import Tenant

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
        if waiting.code not in NEVER:
            waiting = _parked(waiting, request.GET) or _behind(caller.tenant, request.GET) or waiting
    return render(request, "dashboards/_estimate.html", {"waiting": waiting, "never": NEVER})


def _given(query: QueryDict, name: str) -> Any:
    """What the form would make of a field; None when it is empty or wrong."""
    try:
        return JobForm.base_fields[name].clean(query.get(name, "")) or None
    except ValidationError:
        return None


def _parked(waiting: Waiting, query: QueryDict) -> Waiting | None:
    """What a job hears that is not to start before a time that is yet to come."""
    at = _given(query, "not_before")
    pause_s = (at - timezone.now()).total_seconds() if at else 0
    if pause_s <= 0:
        return None
    wait_s = max(round(pause_s), waiting.estimated_wait_s or 0)
    return Waiting("parked", f"It is not to start before {at:%Y-%m-%d %H:%M} UTC.", wait_s)


def _behind(tenant: Tenant, query: QueryDict) -> Waiting | None:
    """What a job hears whose concurrency key has no place free; nobody can say for how long."""
    branch = {name: _given(query, name) for name in ("repo_url", "branch")}
    key = _given(query, "concurrency_key") or key_of_branch(branch)
    # Without a key of its own a limit means nothing.
    most = (_given(query, "concurrency_key") and _given(query, "concurrency_limit")) or 1
    running = len(key_holders([Job(tenant=tenant, concurrency_key=key)]).get((tenant.pk, key), [])) if key else 0
    if running < most:
        return None
    whose = "with this concurrency key" if _given(query, "concurrency_key") else "that pushes to this branch"
    others = f"Another job {whose} runs" if most == 1 else f"{running} of at most {most} jobs {whose} run"
    return Waiting("key_busy", f"{others} now.")
