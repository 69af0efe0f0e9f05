"""Actions on one shard: description, form, and the reason why an action is not possible now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django import forms

from myctobot.tenants.permissions import ModelPermission
from shards import permissions
from shards.admin.shard_forms import DestroyForm, ForceForm, NoInputForm, ReasonForm, RestoreForm, SnapshotForm
from shards.inventory import service
from shards.lifecycle import suspensions
from shards.models import Shard, ShardState
from shards.operations import preconditions
from shards.operations.enrolment import TOKEN_LIFE, issue_token
from shards.operations.models import LIVE_OPERATIONS, Operation
from shards.operations.requests import request
from shards.providers import registry

_Handler = Callable[[Shard, str, dict[str, Any]], str]


@dataclass(frozen=True)
class ShardAction:
    """Action on a shard.

    Attributes:
        title: text of its button.
        description: what happens, in a sentence or two.
        form: form that the operator fills in first.
        permission: permission of the operator.
        do: runs the action with the shard, the actor and the form's data; returns a message for the operator.
        icon: name of a Material Symbols icon.
        danger: the action can lose data or jobs.
        kind: kind of the operation that it requests, or empty.
    """

    title: str
    description: str
    form: type[forms.Form]
    permission: ModelPermission
    do: _Handler
    icon: str
    danger: bool = False
    kind: str = ""

    def form_for(self, shard: Shard, data: Any = None) -> forms.Form:
        """Return the form, with the shard's name or snapshots if it needs them."""
        options: dict[str, Any] = {}
        if self.form is DestroyForm:
            options = {"expected": shard.name}
        elif self.form is RestoreForm:
            options = {"labels": service.snapshots(shard)}
        return self.form(data, **options)


def _drain(shard: Shard, by: str, data: dict[str, Any]) -> str:
    suspensions.drain(shard.name, by=by, reason=data["reason"])
    return f"Shard {shard.name} is drained: it finishes its jobs and takes no new ones."


def _resume(shard: Shard, by: str, data: dict[str, Any]) -> str:
    suspensions.resume(shard.name, by=by)
    return f"Shard {shard.name} takes jobs again."


def _activate(shard: Shard, by: str, data: dict[str, Any]) -> str:
    service.activate(shard, by=by)
    return f"Spare {shard.name} is activated: it takes jobs."


def _issue_token(shard: Shard, by: str, data: dict[str, Any]) -> str:
    minutes = int(TOKEN_LIFE.total_seconds() // 60)
    return f"One-time token, valid for {minutes} minutes. It is not shown again: {issue_token(shard, by=by)}"


def _operation_handler(kind: str) -> _Handler:
    def do(shard: Shard, by: str, data: dict[str, Any]) -> str:
        arguments = {"label": data["label"]} if "label" in data else {}
        request(shard, kind, by=by, force=bool(data.get("force")), **arguments)
        return f"Requested: {kind} of shard {shard.name}. Its steps appear below."

    return do


def _operation(
    kind: str, title: str, description: str, form: type[forms.Form], icon: str, danger: bool = False
) -> ShardAction:
    return ShardAction(title, description, form, permissions.OPERATE, _operation_handler(kind), icon, danger, kind)


ACTIONS: Final[dict[str, ShardAction]] = {
    "drain": ShardAction(
        "Drain", "The shard finishes its jobs and takes no new ones.", ReasonForm, permissions.DRAIN, _drain, "block"
    ),
    "resume": ShardAction(
        "Resume", "The shard takes jobs again at once.", NoInputForm, permissions.RESUME, _resume, "play_arrow"
    ),
    "activate": ShardAction(
        "Activate spare", "The shard is a warm spare. It takes jobs from now on.", NoInputForm, permissions.ACTIVATE,
        _activate, "bolt",
    ),
    "provision": _operation(
        "provision", "Provision",
        "The provider creates the container. The shard enrols by itself and becomes ready when it reports.",
        NoInputForm, "rocket_launch",
    ),
    "start": _operation("start", "Start", "Starts the container.", NoInputForm, "power"),
    "stop": _operation("stop", "Stop", "Stops the container. The shard keeps it.", ForceForm, "stop", True),
    "restart": _operation("restart", "Restart", "Stops and starts the container.", ForceForm, "restart_alt", True),
    "recycle": _operation(
        "recycle", "Re-create",
        "Resets the container to its first state. All data in it is lost, and the shard gets a new key.",
        ForceForm, "recycling", True,
    ),
    "snapshot": _operation(
        "snapshot", "Snapshot", "Takes a snapshot of the container, which may stop for a moment.",
        SnapshotForm, "photo_camera",
    ),
    "restore": _operation(
        "restore", "Restore", "Restores a snapshot and enrols the shard again. Later changes are lost.",
        RestoreForm, "history", True,
    ),
    "destroy": _operation(
        "destroy", "Destroy",
        "Removes the container with its disk and snapshots. This cannot be undone. The shard stays listed as gone.",
        DestroyForm, "delete_forever", True,
    ),
    "token": ShardAction(
        "Enrolment token", "For a machine without a provider. Anyone with the token can enrol as this shard once. "
        "Earlier tokens become invalid.", NoInputForm, permissions.ISSUE_TOKEN, _issue_token, "key",
    ),
}  # fmt: skip


def blocked_reason(name: str, shard: Shard, busy: Operation | None = None) -> str | None:
    """Return a sentence why an action is not possible now, or None.

    Args:
        busy: result of ``live_operation``.
    """
    action = ACTIONS[name]
    if action.kind:
        if busy is not None:
            return f"An operation is in progress: {busy.kind}, requested by {busy.requested_by}."
        features = registry.provider(shard.provider).features if shard.provider in registry.names() else None
        # The form asks whether running jobs may end.
        problem = preconditions.blocked_reason(
            action.kind, state=shard.state, provider=shard.provider, has_container=bool(shard.provider_ref),
            features=features, running=0, force=True,
        )  # fmt: skip
        return f"Not possible: {problem}." if problem else None
    return _BLOCKED_REASONS[name](shard)


def live_operation(shard: Shard) -> Operation | None:
    """Return the operation on the shard that is queued or running."""
    return shard.operations.filter(state__in=LIVE_OPERATIONS).first()


def _drain_blocked_reason(shard: Shard) -> str | None:
    if shard.state == ShardState.GONE:
        return "The shard is gone."
    return "The shard is already drained." if shard.state == ShardState.DRAINING else None


_BLOCKED_REASONS: Final[dict[str, Callable[[Shard], str | None]]] = {
    "drain": _drain_blocked_reason,
    "resume": lambda shard: None if shard.state == ShardState.DRAINING else "The shard is not drained.",
    "activate": lambda shard: None if shard.is_spare else "The shard is not a spare.",
    "token": lambda shard: f"The provider {shard.provider} enrols the shard by itself." if shard.provider else None,
}
