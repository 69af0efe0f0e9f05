"""Actions on the panel's lists: shards, pools and classes out of dispatch and back; shards asked, and worked on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from myctobot.admin_site.widgets import ActionForm, ago, said
from myctobot.errors import MyctobotError
from myctobot.lib.clock import database_now
from shards import remote_control as remote
from shards.inventory import service as managing
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Pool, Shard
from shards.operations.models import OperationKind
from shards.operations.requests import request as request_operation

# Each is asked for 6 s at most; a page must not take minutes.
_MOST_ASKED: Final = 40
_ASKED_AT_ONCE: Final = 8


class ReasonForm(ActionForm):
    """Says why, beside the choice of the action."""

    reason = forms.CharField(
        required=False,
        max_length=300,
        label="",
        # It stands in the coloured bar below the list, whose look it takes.
        widget=forms.TextInput(
            attrs={"placeholder": "Reason, for a drain or a pause", "aria-label": "Reason", "class": "mc-reason"}
        ),
    )


@admin.action(description="Drain: finish what runs, take nothing more", permissions=["change"])
def drain(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    by, reason = _who(request), _reason(request)
    _each(page, request, shards, "drained", lambda shard: closing.drain(shard.name, by=by, reason=reason))


@admin.action(description="Resume: take jobs again", permissions=["change"])
def resume(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _each(page, request, shards, "resumed", lambda shard: closing.resume(shard.name, by=_who(request)))


@admin.action(description="Pause their classes: send nothing to them", permissions=["change"])
def pause_classes(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    by, reason = _who(request), _reason(request)
    _each(
        page,
        request,
        _one_a_class(shards),
        "paused with its whole class",
        lambda shard: closing.pause(shard_class=shard.shard_class, by=by, reason=reason),
    )


@admin.action(description="Resume their classes", permissions=["change"])
def resume_classes(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _each(
        page,
        request,
        _one_a_class(shards),
        "resumed with its whole class",
        lambda shard: closing.unpause(shard_class=shard.shard_class, by=_who(request)),
    )


@admin.action(description="Pause: send nothing to their shards", permissions=["change"])
def pause_pools(page: admin.ModelAdmin[Pool], request: HttpRequest, pools: QuerySet[Pool]) -> None:
    by, reason = _who(request), _reason(request)
    _each(page, request, pools, "paused", lambda pool: closing.pause(pool=pool.name, by=by, reason=reason))


@admin.action(description="Resume: send to their shards again", permissions=["change"])
def resume_pools(page: admin.ModelAdmin[Pool], request: HttpRequest, pools: QuerySet[Pool]) -> None:
    _each(page, request, pools, "resumed", lambda pool: closing.unpause(pool=pool.name, by=_who(request)))


@admin.action(description="Test connectivity", permissions=["view"])
def test_connectivity(
    page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]
) -> HttpResponse | None:
    chosen = list(shards.select_related("pool", "template").order_by("name")[: _MOST_ASKED + 1])
    if len(chosen) > _MOST_ASKED:
        page.message_user(request, f"Choose at most {_MOST_ASKED} shards.", messages.ERROR)
        return None
    # The shards are loaded: these threads ask the broker, and never the database.
    with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
        found = list(pool.map(remote.connectivity, chosen))
    now = database_now()
    results = [
        {
            "shard": shard,
            "found": answer,
            "heartbeat": ago(now - shard.last_heartbeat_at if shard.last_heartbeat_at else None),
        }
        for shard, answer in zip(chosen, found, strict=True)
    ]
    frame = {**page.admin_site.each_context(request), "title": "Connectivity", "opts": page.opts}
    return render(request, "shards/panel/tested.html", {**frame, "results": results})


@admin.action(description="Provision: have their containers made", permissions=["change"])
def provision(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _operate(page, request, shards, OperationKind.PROVISION, "is going to be made")


@admin.action(description="Start their containers", permissions=["change"])
def start(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _operate(page, request, shards, OperationKind.START, "is going to be started")


@admin.action(description="Restart their containers, if they run nothing", permissions=["change"])
def restart(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _operate(page, request, shards, OperationKind.RESTART, "is going to be restarted")


@admin.action(description="Activate spares: let them take jobs", permissions=["change"])
def activate(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _each(page, request, shards, "activated", partial(managing.activate, by=_who(request)))


BULK: Final = [
    test_connectivity, drain, resume, pause_classes, resume_classes, provision, start, restart, activate,
]  # fmt: skip


def _operate(
    page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard], kind: str, done: str
) -> None:
    by = _who(request)
    _each(page, request, shards, done, lambda shard: request_operation(shard, kind, by=by), verb="")


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "")


def _name(row: Model) -> str:
    return f"{type(row).__name__} {row}"


def _one_a_class(shards: Iterable[Shard]) -> list[Shard]:
    return list({shard.shard_class: shard for shard in shards}.values())


def _each(
    page: admin.ModelAdmin[Any],
    request: HttpRequest,
    rows: Iterable[Model],
    done: str,
    do: Callable[[Any], object],
    verb: str = "is ",
) -> None:
    """Do it to each row, and say of each what came of it: one that is refused does not keep the others from it."""
    for row in rows:
        try:
            do(row)
        except MyctobotError as error:
            page.message_user(request, f"{_name(row)}: {said(error)}", messages.ERROR)
        else:
            page.log_change(request, row, f"{done}{': ' + why if (why := _reason(request)) else ''}")
            page.message_user(request, f"{_name(row)} {verb}{done}.", messages.SUCCESS)
