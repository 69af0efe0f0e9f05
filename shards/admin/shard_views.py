"""Views of one shard: actions, connectivity test, live part, history and log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.tenants.permissions import ModelPermission
from shards import permissions, remote_control
from shards.admin import shard_summary
from shards.admin.actions import ACTIONS, blocked_reason, live_operation
from shards.errors import NoAnswer
from shards.models import Shard

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

_LINES = (100, 300, 1000)
# A shard that has just become ready may not listen yet.
_LOG_RETRY_S = 5


def do(page: ModelAdmin[Shard], request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Show the form of an action; run the action when a valid form is sent."""
    action = ACTIONS.get(name)
    if action is None:
        raise Http404
    shard = _shard(page, request, pk, action.permission)
    form = action.form_for(shard, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            messages.success(request, action.do(shard, request.user.get_username(), form.cleaned_data))
            return HttpResponseRedirect(reverse("admin:shards_shard_change", args=[pk]))
        except InvalidRequest as error:
            for field, problems in error.fields.items():
                form.add_error(field if field in form.fields else None, problems)
        except MyctobotError as error:
            form.add_error(None, error.message)
    reason = blocked_reason(name, shard, live_operation(shard))
    context = {"action": action, "form": form, "shard": shard, "blocked_reason": reason}
    return _page(page, request, shard, "do", f"{action.title} {shard}", context)


def test(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """Ask the shard's worker and compare its answer with the configuration."""
    shard = _shard(page, request, pk, permissions.TEST)
    found = remote_control.connectivity(shard)
    context = {**shard_summary.at_a_glance(shard), "found": found}
    return _page(page, request, shard, "test", f"Connectivity of {shard}", context)


def live(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """Return the part of the page that is refreshed every second during an operation."""
    shard = _shard(page, request, pk, permissions.VIEW_SHARD)
    context = shard_summary.live(shard)
    may_change = page.has_change_permission(request, shard)
    response = render(request, "shards/panel/_live.html", {**context, "may_change": may_change})
    if context["busy"] is None:
        # This event makes the page load its log and history again.
        response.headers["HX-Trigger"] = "shard-settled"
    return response


def past(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """Return the history, which the page loads again after an operation."""
    shard = _shard(page, request, pk, permissions.VIEW_SHARD)
    return render(request, "shards/panel/_past.html", {"shard": shard, **shard_summary.past(shard)})


def log(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """Return the last lines of the worker's log."""
    shard = _shard(page, request, pk, permissions.READ_LOG)
    requested = request.GET.get("lines", "")
    lines = int(requested) if requested in map(str, _LINES) else _LINES[0]
    context: dict[str, Any] = {"shard": shard, "choices": _LINES, "lines": lines}
    try:
        context["found"] = remote_control.tail_log(shard, lines)
    except NoAnswer as error:
        context |= {"problem": error.message, "retry_s": _LOG_RETRY_S, **shard_summary.at_a_glance(shard)}
    return render(request, "shards/panel/_log.html", context)


def _shard(page: ModelAdmin[Shard], request: HttpRequest, pk: int, permission: ModelPermission) -> Shard:
    if not permission.is_held_by(request.user):
        raise PermissionDenied
    shard = page.get_queryset(request).select_related("pool", "template").filter(pk=pk).first()
    if shard is None:
        raise Http404
    return shard


def _page(
    page: ModelAdmin[Shard], request: HttpRequest, shard: Shard, template: str, title: str, context: dict[str, Any]
) -> HttpResponse:
    frame = {**page.admin_site.each_context(request), "title": title, "opts": page.opts, "original": shard}
    return render(request, f"shards/panel/{template}.html", {**frame, **context})
