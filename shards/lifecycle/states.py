"""States of a shard and the allowed transitions, as one table; pure.

                   ┌───────── re-created ──────────┐
requested ──▶ provisioning ──▶ ready ◀──▶ suspect ─┴▶ lost
    │              │            │  ▲         │   ▲      │
    └─ heartbeat ──┼──▶ ready   ▼  │         ▼   └──────┤ reports again
                   │           draining ◀────┴──────────┘ (to draining if it is drained)
                   │             │    └─ silent ──▶ lost
                   ▼             ▼
       any ──▶   gone          stopped ──▶ provisioning, or ready on a heartbeat

docs/shards.md shows the same diagram.
"""

from __future__ import annotations

from typing import Final

REQUESTED, PROVISIONING, READY, SUSPECT = "requested", "provisioning", "ready", "suspect"
LOST, DRAINING, STOPPED, GONE = "lost", "draining", "stopped", "gone"

# Allowed next states. A shard can be destroyed in every state and provisioned again afterwards.
MOVES: Final[dict[str, frozenset[str]]] = {
    REQUESTED: frozenset({PROVISIONING, READY, DRAINING, STOPPED, GONE}),
    # Requested: it could not be built, and nothing is left of it. Draining: its drain continues.
    PROVISIONING: frozenset({READY, DRAINING, REQUESTED, STOPPED, LOST, GONE}),
    READY: frozenset({SUSPECT, DRAINING, STOPPED, PROVISIONING, GONE}),
    SUSPECT: frozenset({READY, LOST, DRAINING, STOPPED, PROVISIONING, GONE}),
    # A lost shard that reports again becomes suspect first, like every shard that was silent.
    LOST: frozenset({SUSPECT, DRAINING, STOPPED, PROVISIONING, GONE}),
    DRAINING: frozenset({READY, SUSPECT, LOST, STOPPED, PROVISIONING, GONE}),
    # Lost: the stopped container no longer exists.
    STOPPED: frozenset({READY, SUSPECT, DRAINING, LOST, PROVISIONING, REQUESTED, GONE}),
    GONE: frozenset({REQUESTED, PROVISIONING}),
}
# Transitions that alert operators, with the kind of alert.
ALERTS: Final[dict[tuple[str, str], str]] = {
    (READY, SUSPECT): "shard.suspect",
    (SUSPECT, LOST): "shard.lost",
    (DRAINING, LOST): "shard.lost",
    (PROVISIONING, LOST): "shard.lost",
    (STOPPED, LOST): "shard.lost",
    (SUSPECT, READY): "shard.healthy",
    (SUSPECT, DRAINING): "shard.healthy",
    (LOST, DRAINING): "shard.healthy",
}


def may_move(state: str, to: str) -> bool:
    """Tell whether a shard may go from ``state`` to ``to``; staying in a state is not a transition."""
    return to in MOVES[state]
