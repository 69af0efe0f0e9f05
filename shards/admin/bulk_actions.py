"""Bulk actions on the lists of shards and pools."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from myctobot.admin_site.widgets import ActionForm, ago, said
from myctobot.errors import MyctobotError
from myctobot.lib.clock import database_now
from myctobot.tenants.permissions import ModelPermission
from shards import permissions, remote_control
from shards.inventory import service
from shards.lifecycle import suspensions
from shards.models import Pool, Shard
from shards.operations.models import OperationKind
from shards.operations.requests import request as request_operation

# A test takes up to 6 s, and the page must answer within half a minute.
_MAX_TESTED: Final = 40
_PARALLEL_TESTS: Final = 8

_Action = TypeVar("_Action", bound=Callable[..., HttpResponse | None])


class BulkReasonForm(ActionForm):
    """Field for the reason next to the choice of the action."""

    reason = forms.CharField(
        required=False,
        max_length=300,
        label="",
        # The field sits in the coloured bar below the list.
        widget=forms.TextInput(
            attrs={"placeholder": "Reason for a drain or pause", "aria-label": "Reason", "class": "mc-reason"}
        ),
    )


def _bulk(description: str, permission: ModelPermission) -> Callable[[_Action], _Action]:
    # Django asks the page of the model for the permission.
    return admin.action(description=description, permissions=[permission.verb])


@_bulk("Drain: finish jobs, take no new ones", permissions.DRAIN)
def drain(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    by, reason = _actor(request), _reason(request)
    _each(page, request, shards, "drained", lambda shard: suspensions.drain(shard.name, by=by, reason=reason))


@_bulk("Resume: take jobs again", permissions.RESUME)
def resume(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _each(page, request, shards, "resumed", lambda shard: suspensions.resume(shard.name, by=_actor(request)))


@_bulk("Pause their classes: send them no jobs", permissions.PAUSE_CLASS)
def pause_classes(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    by, reason = _actor(request), _reason(request)
    _each(
        page,
        request,
        _one_per_class(shards),
        "paused with its whole class",
        lambda shard: suspensions.pause(shard_class=shard.shard_class, by=by, reason=reason),
    )


@_bulk("Resume their classes", permissions.PAUSE_CLASS)
def resume_classes(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _each(
        page,
        request,
        _one_per_class(shards),
        "resumed with its whole class",
        lambda shard: suspensions.unpause(shard_class=shard.shard_class, by=_actor(request)),
    )


@_bulk("Pause: send no jobs to their shards", permissions.PAUSE_POOL)
def pause_pools(page: admin.ModelAdmin[Pool], request: HttpRequest, pools: QuerySet[Pool]) -> None:
    by, reason = _actor(request), _reason(request)
    _each(page, request, pools, "paused", lambda pool: suspensions.pause(pool=pool.name, by=by, reason=reason))


@_bulk("Resume: send jobs to their shards again", permissions.PAUSE_POOL)
def resume_pools(page: admin.ModelAdmin[Pool], request: HttpRequest, pools: QuerySet[Pool]) -> None:
    _each(page, request, pools, "resumed", lambda pool: suspensions.unpause(pool=pool.name, by=_actor(request)))


@_bulk("Test connectivity", permissions.TEST)
def test_connectivity(
    page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]
) -> HttpResponse | None:
    chosen = list(shards.select_related("pool", "template").order_by("name")[: _MAX_TESTED + 1])
    if len(chosen) > _MAX_TESTED:
        page.message_user(request, f"Choose at most {_MAX_TESTED} shards.", messages.ERROR)
        return None
    # The shards are loaded, so these threads use only the broker, not the database.
    with ThreadPoolExecutor(_PARALLEL_TESTS) as pool:
        found = list(pool.map(remote_control.connectivity, chosen))
    now = database_now()
    results = [
        {
            "shard": shard,
            "found": result,
            "heartbeat": ago(now - shard.last_heartbeat_at if shard.last_heartbeat_at else None),
        }
        for shard, result in zip(chosen, found, strict=True)
    ]
    frame = {**page.admin_site.each_context(request), "title": "Connectivity", "opts": page.opts}
    return render(request, "shards/panel/tested.html", {**frame, "results": results})


@_bulk("Provision: create their containers", permissions.OPERATE)
def provision(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _operate(page, request, shards, OperationKind.PROVISION, "will be provisioned")


@_bulk("Start containers", permissions.OPERATE)
def start(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _operate(page, request, shards, OperationKind.START, "will be started")


@_bulk("Restart containers of idle shards", permissions.OPERATE)
def restart(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _operate(page, request, shards, OperationKind.RESTART, "will be restarted")


@_bulk("Activate spares: let them take jobs", permissions.ACTIVATE)
def activate(page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard]) -> None:
    _each(page, request, shards, "activated", partial(service.activate, by=_actor(request)))


BULK: Final = [
    test_connectivity, drain, resume, pause_classes, resume_classes, provision, start, restart, activate,
]  # fmt: skip


def _operate(
    page: admin.ModelAdmin[Shard], request: HttpRequest, shards: QuerySet[Shard], kind: str, done: str
) -> None:
    by = _actor(request)
    _each(page, request, shards, done, lambda shard: request_operation(shard, kind, by=by), verb="")


def _actor(request: HttpRequest) -> str:
    return request.user.get_username()


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "")


def _name(row: Model) -> str:
    return f"{type(row).__name__} {row}"


def _one_per_class(shards: Iterable[Shard]) -> list[Shard]:
    return list({shard.shard_class: shard for shard in shards}.values())


def _each(
    page: admin.ModelAdmin[Any],
    request: HttpRequest,
    rows: Iterable[Model],
    done: str,
    do: Callable[[Any], object],
    verb: str = "is ",
) -> None:
    """Run an action on each row and report each result; an error of one row does not stop the others."""
    for row in rows:
        try:
            do(row)
        except MyctobotError as error:
            name, text = _name(row), said(error)
            page.message_user(request, text if text.startswith(name) else f"{name}: {text}", messages.ERROR)
        else:
            page.log_change(request, row, f"{done}{': ' + reason if (reason := _reason(request)) else ''}")
            page.message_user(request, f"{_name(row)} {verb}{done}.", messages.SUCCESS)
