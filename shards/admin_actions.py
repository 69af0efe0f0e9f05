"""Actions of the admin that take shards, pools and classes out of dispatch, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db.models import Model, QuerySet
from django.http import HttpRequest

from myctobot.errors import InvalidRequest, MyctobotError
from shards import closing
from shards.models import Pool, Shard


class ReasonForm(ActionForm):
    """Says why, beside the choice of the action."""

    reason = forms.CharField(
        required=False, max_length=300, label="Reason", help_text="Whoever asks why jobs wait is told."
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


def _who(request: HttpRequest) -> str:
    return request.user.get_username()


def _reason(request: HttpRequest) -> str:
    return request.POST.get("reason", "")


def _name(row: Model) -> str:
    return f"{type(row).__name__} {row}"


def _one_a_class(shards: Iterable[Shard]) -> list[Shard]:
    return list({shard.shard_class: shard for shard in shards}.values())


def _each(
    page: admin.ModelAdmin[Any], request: HttpRequest, rows: Iterable[Model], done: str, do: Callable[[Any], object]
) -> None:
    """Do it to each row, and say of each what came of it: one that is refused does not keep the others from it."""
    for row in rows:
        try:
            do(row)
        except InvalidRequest as error:
            said = " ".join(problem for problems in error.fields.values() for problem in problems)
            page.message_user(request, f"{_name(row)}: {said or error.message}", messages.ERROR)
        except MyctobotError as error:
            page.message_user(request, f"{_name(row)}: {error.message}", messages.ERROR)
        else:
            page.log_change(request, row, f"{done}{': ' + why if (why := _reason(request)) else ''}")
            page.message_user(request, f"{_name(row)} is {done}.", messages.SUCCESS)
