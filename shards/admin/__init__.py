"""The operators' panel: shards and all that belongs to them."""

from __future__ import annotations

from shards.admin import history as records
from shards.admin import pools as places
from shards.admin import shards as shard_page

__all__ = ["places", "records", "shard_page"]
