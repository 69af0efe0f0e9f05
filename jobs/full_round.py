"""What is done whenever somebody asks for a round: slots are given out, and where there are none, had."""

from __future__ import annotations

from jobs.autoscaling import use_spares
from jobs.dispatch import dispatch_round
from jobs.recycling import recycle_used


def full_round() -> None:
    """Give waiting jobs the slots that are free; bring back shards that had their one job; let spares take the rest."""
    dispatch_round()
    # A round is asked for after the end of each job, so it is the moment for these too.
    recycle_used()
    use_spares()
