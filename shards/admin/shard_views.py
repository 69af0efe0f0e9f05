"""Views of one shard beside its page: ask it, do something to it, watch that, read its log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse

from myctobot.errors import InvalidRequest, MyctobotError
from shards import remote_control as remote
from shards.admin import shard_summary as shard_look
from shards.admin.actions import DEEDS, under_way, why_not
from shards.errors import NoAnswer
from shards.models.shard import Shard

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin

_LINES = (100, 300, 1000)


def do(page: ModelAdmin[Shard], request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Say what something means and ask for what it needs; do it when that is sent."""
    shard = _shard(page, request, pk, change=True)
    deed = DEEDS.get(name)
    if deed is None:
        raise Http404
    form = deed.form_for(shard, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            messages.success(request, deed.do(shard, request.user.get_username(), form.cleaned_data))
            return HttpResponseRedirect(reverse("admin:shards_shard_change", args=[pk]))
        except InvalidRequest as error:
            for field, problems in error.fields.items():
                form.add_error(field if field in form.fields else None, problems)
        except MyctobotError as error:
            form.add_error(None, error.message)
    context = {"deed": deed, "form": form, "shard": shard, "why_not": why_not(name, shard, under_way(shard))}
    return _page(page, request, shard, "do", f"{deed.title} {shard}", context)


def test(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """Ask its worker, and show what it says beside what is configured."""
    shard = _shard(page, request, pk)
    found = remote.connectivity(shard)
    context = {**shard_look.at_a_glance(shard), "found": found}
    return _page(page, request, shard, "test", f"Connectivity of {shard}", context)


def live(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """The part of its page that is fetched every second while something is done to it."""
    shard = _shard(page, request, pk)
    look = shard_look.live(shard)
    answer = render(request, "shards/panel/_live.html", {**look, "may_change": _may(page, request, shard)})
    if look["busy"] is None:
        # The other parts of the page listen for this: its log and its past are of interest again.
        answer.headers["HX-Trigger"] = "shard-settled"
    return answer


def past(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """What changed, for the page to fetch again once an operation has ended."""
    shard = _shard(page, request, pk)
    return render(request, "shards/panel/_past.html", {"shard": shard, **shard_look.past(shard)})


def log(page: ModelAdmin[Shard], request: HttpRequest, pk: int) -> HttpResponse:
    """The last lines of its worker's log, for the page to fetch."""
    shard = _shard(page, request, pk)
    asked = request.GET.get("lines", "")
    lines = int(asked) if asked in map(str, _LINES) else _LINES[0]
    context: dict[str, Any] = {"shard": shard, "choices": _LINES, "lines": lines}
    try:
        context["found"] = remote.tail_log(shard, lines)
    except NoAnswer as error:
        context |= {"problem": error.message, **shard_look.at_a_glance(shard)}
    return render(request, "shards/panel/_log.html", context)


def _shard(page: ModelAdmin[Shard], request: HttpRequest, pk: int, *, change: bool = False) -> Shard:
    shard = page.get_queryset(request).select_related("pool", "template").filter(pk=pk).first()
    if shard is None:
        raise Http404
    allowed = _may(page, request, shard) if change else page.has_view_permission(request, shard)
    if not allowed:
        raise PermissionDenied
    return shard


def _may(page: ModelAdmin[Shard], request: HttpRequest, shard: Shard) -> bool:
    return page.has_change_permission(request, shard)


def _page(
    page: ModelAdmin[Shard], request: HttpRequest, shard: Shard, template: str, title: str, context: dict[str, Any]
) -> HttpResponse:
    frame = {**page.admin_site.each_context(request), "title": title, "opts": page.opts, "original": shard}
    return render(request, f"shards/panel/{template}.html", {**frame, **context})
