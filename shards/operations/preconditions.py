"""Which operation may be asked for in which state of a shard, and what it needs of the provider. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shards.lifecycle.states import DRAINING, GONE, LOST, PROVISIONING, READY, REQUESTED, STOPPED, SUSPECT
from shards.providers.base import Features

_MADE: Final = frozenset({READY, SUSPECT, LOST, DRAINING, STOPPED, PROVISIONING})

# Kind of operation -> the states in which it makes sense.
STATES: Final[dict[str, frozenset[str]]] = {
    "provision": frozenset({REQUESTED, GONE, STOPPED, LOST}),
    "recycle": frozenset({DRAINING, SUSPECT, LOST, STOPPED, PROVISIONING}),
    "start": frozenset({STOPPED, LOST, SUSPECT}),
    "stop": _MADE,
    "restart": _MADE,
    "snapshot": frozenset({READY, DRAINING, STOPPED, SUSPECT}),
    "restore": _MADE,
    "destroy": _MADE | {REQUESTED},
}
# These work on a container that exists; the others make one, or do not mind.
NEEDS_CONTAINER: Final = frozenset({"recycle", "start", "stop", "restart", "snapshot", "restore"})
NEEDS_FEATURE: Final[dict[str, Callable[[Features], bool]]] = {
    "snapshot": lambda features: features.snapshots,
    "restore": lambda features: features.snapshots,
}
# These end what runs in the container, so it must run nothing, or an operator must say that it may.
ENDS_JOBS: Final = frozenset({"recycle", "stop", "restart", "snapshot", "restore", "destroy"})


def why_not(
    kind: str, *, state: str, provider: str, has_container: bool, features: Features | None, running: int, force: bool
) -> str | None:
    """Say why an operation cannot be done now, or None.

    Args:
        kind: an ``OperationKind`` value.
        state: the shard's.
        provider: who makes its container; empty when nobody does.
        has_container: whether a container is on record.
        features: the provider's; None when there is no provider.
        running: jobs that it says it runs.
        force: an operator does not mind that these end.
    """
    if not provider or features is None:
        return "it has no provider: its machine was set up by hand, and is started, stopped and removed there"
    if state not in STATES[kind]:
        return f"it is {state}, and that is done only to one that is {' or '.join(sorted(STATES[kind]))}"
    if kind == "provision" and has_container:
        return "a container of it is on record; destroy that first"
    if kind in NEEDS_CONTAINER and not has_container:
        return "it has no container; provision it first"
    if kind in NEEDS_FEATURE and not NEEDS_FEATURE[kind](features):
        return f"the provider {provider} has no snapshots"
    if kind in ENDS_JOBS and running and not force:
        jobs = "a job" if running == 1 else f"{running} jobs"
        return f"it runs {jobs}; drain it and wait, or say that these may end"
    return None
