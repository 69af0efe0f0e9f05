"""Admin pages of shards, pools, templates, assignments and their history."""

from __future__ import annotations

from shards.admin import history, pools, shards

__all__ = ["history", "pools", "shards"]
