"""Preconditions of operations: states of the shard and features of the provider; pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from shards.lifecycle.states import DRAINING, GONE, LOST, PROVISIONING, READY, REQUESTED, STOPPED, SUSPECT
from shards.providers.base import Features

_EXISTING: Final = frozenset({READY, SUSPECT, LOST, DRAINING, STOPPED, PROVISIONING})

# Kind of operation -> states in which it is possible.
STATES: Final[dict[str, frozenset[str]]] = {
    "provision": frozenset({REQUESTED, GONE, STOPPED, LOST}),
    "recycle": frozenset({DRAINING, SUSPECT, LOST, STOPPED, PROVISIONING}),
    "start": frozenset({STOPPED, LOST, SUSPECT}),
    "stop": _EXISTING,
    "restart": _EXISTING,
    "snapshot": frozenset({READY, DRAINING, STOPPED, SUSPECT}),
    "restore": _EXISTING,
    "destroy": _EXISTING | {REQUESTED},
}
# These need an existing container.
NEEDS_CONTAINER: Final = frozenset({"recycle", "start", "stop", "restart", "snapshot", "restore"})
NEEDS_FEATURE: Final[dict[str, Callable[[Features], bool]]] = {
    "snapshot": lambda features: features.snapshots,
    "restore": lambda features: features.snapshots,
}
# These end running jobs, so the shard must be idle or the operator must allow it.
ENDS_JOBS: Final = frozenset({"recycle", "stop", "restart", "snapshot", "restore", "destroy"})


def blocked_reason(
    kind: str, *, state: str, provider: str, has_container: bool, features: Features | None, running: int, force: bool
) -> str | None:
    """Return the reason why an operation is not possible now, or None.

    Args:
        kind: an ``OperationKind`` value.
        state: state of the shard.
        provider: name of its provider, or empty.
        has_container: the shard refers to a container.
        features: features of the provider; None without a provider.
        running: number of jobs that the shard runs.
        force: running jobs may end.
    """
    if not provider or features is None:
        return "it has no provider, so an operator manages its machine directly"
    if state not in STATES[kind]:
        return f"it is {state}, and the operation needs a shard that is {' or '.join(sorted(STATES[kind]))}"
    if kind == "provision" and has_container:
        return "it has a container already; destroy that first"
    if kind in NEEDS_CONTAINER and not has_container:
        return "it has no container; provision it first"
    if kind in NEEDS_FEATURE and not NEEDS_FEATURE[kind](features):
        return f"the provider {provider} does not support snapshots"
    if kind in ENDS_JOBS and running and not force:
        jobs = "a job" if running == 1 else f"{running} jobs"
        return f"it runs {jobs}; drain it and wait, or allow running jobs to end"
    return None
