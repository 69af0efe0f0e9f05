"""What an operator can do to one shard: each with what it means, what it asks for, and whether it can be done now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django import forms

from shards.admin.shard_forms import DestroyForm, ForceForm, NothingForm, ReasonForm, RestoreForm, SnapshotForm
from shards.inventory import service as managing
from shards.lifecycle.states import suspensions as closing
from shards.models.shard import Shard, ShardState
from shards.operations import preconditions as rules
from shards.operations.enrolment import TOKEN_LIFE, issue_token
from shards.operations.models import LIVE_OPERATIONS, Operation
from shards.operations.requests import request
from shards.providers import registry

_GIVES = Callable[[Shard, str, dict[str, Any]], str]


@dataclass(frozen=True)
class Deed:
    """One thing to do.

    Attributes:
        title: of its button.
        means: what happens, in a sentence or two.
        form: what has to be said first.
        do: does it, given the shard, who, and what the form says; returns a sentence for that person.
        icon: of Material Symbols.
        danger: whether something is lost by it.
        kind: the operation on its container that it is, if any.
    """

    title: str
    means: str
    form: type[forms.Form]
    do: _GIVES
    icon: str
    danger: bool = False
    kind: str = ""

    def form_for(self, shard: Shard, data: Any = None) -> forms.Form:
        """The form, with what it has to know of the shard."""
        more: dict[str, Any] = {}
        if self.form is DestroyForm:
            more = {"expected": shard.name}
        elif self.form is RestoreForm:
            more = {"labels": managing.snapshots(shard)}
        return self.form(data, **more)


def _drain(shard: Shard, by: str, said: dict[str, Any]) -> str:
    closing.drain(shard.name, by=by, reason=said["reason"])
    return f"Shard {shard.name} is drained: it finishes what it runs, and takes nothing more."


def _resume(shard: Shard, by: str, said: dict[str, Any]) -> str:
    closing.resume(shard.name, by=by)
    return f"Shard {shard.name} takes jobs again."


def _activate(shard: Shard, by: str, said: dict[str, Any]) -> str:
    managing.activate(shard, by=by)
    return f"Shard {shard.name} is no spare any more: it takes jobs."


def _token(shard: Shard, by: str, said: dict[str, Any]) -> str:
    minutes = int(TOKEN_LIFE.total_seconds() // 60)
    return f"One-time token, shown this once and good for {minutes} minutes: {issue_token(shard, by=by)}"


def _operate(kind: str) -> _GIVES:
    def do(shard: Shard, by: str, said: dict[str, Any]) -> str:
        arguments = {"label": said["label"]} if "label" in said else {}
        request(shard, kind, by=by, force=bool(said.get("force")), **arguments)
        return f"Asked for: {kind} of shard {shard.name}. Its steps are shown below as they are taken."

    return do


def _operation(kind: str, title: str, means: str, form: type[forms.Form], icon: str, danger: bool = False) -> Deed:
    return Deed(title, means, form, _operate(kind), icon, danger, kind)


DEEDS: Final[dict[str, Deed]] = {
    "drain": Deed("Drain", "It finishes what it runs, and gets nothing more.", ReasonForm, _drain, "block"),
    "resume": Deed("Resume", "It takes jobs again, at once.", NothingForm, _resume, "play_arrow"),
    "activate": Deed(
        "Activate spare", "It was kept ready ahead of need; from now on it takes jobs.", NothingForm, _activate, "bolt"
    ),
    "provision": _operation(
        "provision", "Provision",
        "Its provider makes its container; it enrols by itself, and is ready when it reports.",
        NothingForm, "rocket_launch",
    ),
    "start": _operation("start", "Start", "Its container is started.", NothingForm, "power"),
    "stop": _operation("stop", "Stop", "Its container is stopped, and keeps its place.", ForceForm, "stop", True),
    "restart": _operation("restart", "Restart", "It is stopped and started.", ForceForm, "restart_alt", True),
    "recycle": _operation(
        "recycle", "Make anew",
        "Its container becomes what it was before it ever ran; nothing that ran there stays. It gets a new key.",
        ForceForm, "recycling", True,
    ),
    "snapshot": _operation(
        "snapshot", "Snapshot", "The present state of its container is kept under a name. It may stop for a moment.",
        SnapshotForm, "photo_camera",
    ),
    "restore": _operation(
        "restore", "Restore", "Its container goes back to a snapshot, and enrols anew. What came after is lost.",
        RestoreForm, "history", True,
    ),
    "destroy": _operation(
        "destroy", "Destroy",
        "Its container, with its disk and its snapshots, is removed for good. The shard stays on record as gone.",
        DestroyForm, "delete_forever", True,
    ),
    "token": Deed(
        "Enrolment token", "For a machine that is set up by hand. Whoever has it can enrol as this shard, once. "
        "Tokens that it had before end now.", NothingForm, _token, "key",
    ),
}  # fmt: skip


def why_not(name: str, shard: Shard, busy: Operation | None = None) -> str | None:
    """Say in a sentence why it cannot be done to a shard now, or None.

    Args:
        busy: the operation that is under way, as ``under_way`` found it.
    """
    deed = DEEDS[name]
    if deed.kind:
        if busy is not None:
            return f"Something is being done to it: {busy.kind}, asked for by {busy.requested_by}."
        features = registry.provider(shard.provider).features if shard.provider in registry.names() else None
        # That running jobs may end is asked for in the form.
        problem = rules.why_not(
            deed.kind, state=shard.state, provider=shard.provider, has_container=bool(shard.provider_ref),
            features=features, running=0, force=True,
        )  # fmt: skip
        return f"Not possible: {problem}." if problem else None
    return _OTHERS[name](shard)


def under_way(shard: Shard) -> Operation | None:
    """The operation on its container that is queued or running."""
    return shard.operations.filter(state__in=LIVE_OPERATIONS).first()


def _why_not_drain(shard: Shard) -> str | None:
    if shard.state == ShardState.GONE:
        return "It is gone."
    return "It is drained already." if shard.state == ShardState.DRAINING else None


_OTHERS: Final[dict[str, Callable[[Shard], str | None]]] = {
    "drain": _why_not_drain,
    "resume": lambda shard: None if shard.state == ShardState.DRAINING else "It is not drained.",
    "activate": lambda shard: None if shard.is_spare else "It is no spare.",
    "token": lambda shard: f"Its provider {shard.provider} enrols it by itself." if shard.provider else None,
}
