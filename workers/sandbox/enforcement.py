"""Limits that a shard really enforces, by the isolation that it decided at its start."""

from __future__ import annotations

import os
from typing import Final

from myctobot.contract.shards import EnforcedLimits, IsolationKind
from workers.sandbox.isolation import Isolation
from workers.sandbox.limits import LEAF

GROUP: Final = "control_group"
WATCHDOG: Final = "watchdog"
IMAGE: Final = "image"
USER: Final = "user"
NONE: Final = "none"

NO_LIMITS: Final = (
    "no limit on the agents' memory and processes is enforced: the shard can neither create control groups nor use "
    f"bubblewrap. Give its user a writable control group (Delegate=yes and DelegateSubgroup={LEAF} in a systemd unit), "
    "install bubblewrap, or set sandbox.allow_unlimited."
)


def enforced_limits(isolation: Isolation) -> EnforcedLimits:
    """Return how a shard enforces the limits of its agents.

    Memory and processes are limited by control groups where the shard can create them. Otherwise, with a sandbox, a
    watchdog limits memory and the kernel limits the processes of the agent's user. The disk of a job is limited by its
    image where jobs have images, and by a watchdog over the shard's free space elsewhere.
    """
    isolated = isolation.kind is IsolationKind.SANDBOX
    # The kernel does not limit the processes of root.
    user = USER if isolated or os.geteuid() != 0 else NONE
    return EnforcedLimits(
        memory=GROUP if "memory" in isolation.groups else WATCHDOG if isolated else NONE,
        processes=GROUP if "processes" in isolation.groups else user,
        disk=IMAGE if isolation.disk_images else WATCHDOG,
    )


def limits_problem(enforced: EnforcedLimits) -> str | None:
    """Return why a shard with these limits must not run jobs, or None; one without a limit on memory must not."""
    return NO_LIMITS if enforced["memory"] == NONE else None
