"""The operators' panel: shards and all that belongs to them."""

from __future__ import annotations

from shards.admin import places, records, shard_page

__all__ = ["places", "records", "shard_page"]
