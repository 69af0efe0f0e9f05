"""Pages on which members see what pushes of their tenant's jobs may do, and admins decide it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from myctobot.dashboards.pages import admins_change, admins_only, error_text, member_page
from myctobot.dashboards.policy_forms import MAX_REPOSITORY_LENGTH, NewPolicyForm, PolicyForm
from myctobot.errors import MyctobotError
from myctobot.tenants.authentication import Caller, caller_name
from myctobot.tenants.models import RepositoryPolicy
from myctobot.tenants.repository_policies import UnknownPolicy, find_policy, remove_policy, set_policy


@require_http_methods(["GET", "POST"])
@member_page
@admins_change
def policy_list(request: HttpRequest, caller: Caller) -> HttpResponse:
    """List the tenant's policies, and add one. The query may name the repository of the new one."""
    named = {"repository": request.GET.get("repository", "")[:MAX_REPOSITORY_LENGTH]}
    form = NewPolicyForm(caller.tenant, request.POST if request.method == "POST" else None, initial=named)
    if form.is_valid():
        try:
            set_policy(caller.tenant, form.cleaned_data["repository"], form.policy, actor=caller_name(caller))
            return redirect("console-policies")
        except MyctobotError as error:
            form.add_error("repository", error_text(error))
    stored = RepositoryPolicy.objects.filter(tenant=caller.tenant).order_by("repository")
    context = {"stored": stored, "form": form}
    return render(request, "dashboards/policies.html", context, status=400 if form.is_bound else 200)


@require_http_methods(["GET", "POST"])
@member_page
@admins_only
def policy_detail(request: HttpRequest, caller: Caller, policy_id: int) -> HttpResponse:
    """Show the form that changes a policy, and change it."""
    try:
        policy = find_policy(caller.tenant, policy_id)
    except UnknownPolicy:
        return _not_found(request)
    form = PolicyForm(request.POST if request.method == "POST" else None, initial=PolicyForm.initial_of(policy))
    if form.is_valid():
        set_policy(caller.tenant, policy.repository, form.policy, actor=caller_name(caller))
        return redirect("console-policies")
    return render(request, "dashboards/policy.html", {"policy": policy, "form": form})


@require_POST
@member_page
@admins_only
def policy_remove(request: HttpRequest, caller: Caller, policy_id: int) -> HttpResponse:
    """Remove a policy."""
    try:
        policy = find_policy(caller.tenant, policy_id)
        remove_policy(caller.tenant, policy.repository, actor=caller_name(caller))
    except UnknownPolicy:
        return _not_found(request)
    return redirect("console-policies")


def _not_found(request: HttpRequest) -> HttpResponse:
    return render(request, "dashboards/not_found.html", status=404)
