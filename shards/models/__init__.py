"""Tables of shards, pools, assignments and suspensions."""

from shards.models.assignment import Assignment
from shards.models.pool import Pool, PoolMode, ShardTemplate, ShardType, validate_slug
from shards.models.shard import Shard, ShardState
from shards.models.suspension import Suspension

__all__ = [
    "Assignment",
    "Pool",
    "PoolMode",
    "Shard",
    "ShardState",
    "ShardTemplate",
    "ShardType",
    "Suspension",
    "validate_slug",
]
