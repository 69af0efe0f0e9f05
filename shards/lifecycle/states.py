"""The life of a shard, as one table. Pure.

                   ┌────────── made anew ──────────┐
requested ──▶ provisioning ──▶ ready ◀──▶ suspect ─┴▶ lost
    │              │            │  ▲         │   ▲      │
    └─ heard of ───┼──▶ ready   ▼  │         ▼   └──────┤ heard of again
                   │           draining ◀────┴──────────┘ (to draining, when it was to drain)
                   │             │    └─ silent ──▶ lost
                   ▼             ▼
       any ──▶   gone          stopped ──▶ provisioning, or ready when heard of

docs/shards.md shows the same picture.
"""

from __future__ import annotations

from typing import Final

REQUESTED, PROVISIONING, READY, SUSPECT = "requested", "provisioning", "ready", "suspect"
LOST, DRAINING, STOPPED, GONE = "lost", "draining", "stopped", "gone"

# Where a shard may go from where it is. Every state may be destroyed, and whatever was destroyed may be made again.
MOVES: Final[dict[str, frozenset[str]]] = {
    REQUESTED: frozenset({PROVISIONING, READY, DRAINING, STOPPED, GONE}),
    # Back to requested: it could not be made, and nothing of it is left. Draining: it is still to drain.
    PROVISIONING: frozenset({READY, DRAINING, REQUESTED, STOPPED, LOST, GONE}),
    READY: frozenset({SUSPECT, DRAINING, STOPPED, PROVISIONING, GONE}),
    SUSPECT: frozenset({READY, LOST, DRAINING, STOPPED, PROVISIONING, GONE}),
    # Heard of again it has to prove itself like every other that was silent.
    LOST: frozenset({SUSPECT, DRAINING, STOPPED, PROVISIONING, GONE}),
    DRAINING: frozenset({READY, SUSPECT, LOST, STOPPED, PROVISIONING, GONE}),
    # Lost: what was stopped is not there any more.
    STOPPED: frozenset({READY, SUSPECT, DRAINING, LOST, PROVISIONING, REQUESTED, GONE}),
    GONE: frozenset({REQUESTED, PROVISIONING}),
}
# What an operator wants to know: something broke, or is well again. Each is told of under a kind of its own.
ALERTS: Final[dict[tuple[str, str], str]] = {
    (READY, SUSPECT): "shard.suspect",
    (SUSPECT, LOST): "shard.lost",
    (DRAINING, LOST): "shard.lost",
    (PROVISIONING, LOST): "shard.lost",
    (STOPPED, LOST): "shard.lost",
    (SUSPECT, READY): "shard.well",
    (SUSPECT, DRAINING): "shard.well",
    (LOST, DRAINING): "shard.well",
}


def may_move(state: str, to: str) -> bool:
    """Whether a shard in ``state`` may go to ``to``; to stay is no move."""
    return to in MOVES[state]
