"""Lanes: a set of capabilities as one string."""

from __future__ import annotations

from collections.abc import Iterable


def lane_of(capabilities: Iterable[str]) -> str:
    """Return the lane of jobs that request these capabilities."""
    return "+".join(sorted(set(capabilities)))


def needs_of(lane: str) -> frozenset[str]:
    """Return the capabilities that jobs of a lane request."""
    return frozenset(lane.split("+"))
