"""Tables of shards, pools, assignments, suspensions and reachability."""

from shards.models.assignment import Assignment
from shards.models.pool import Pool, PoolMode, ShardTemplate, ShardType, validate_slug
from shards.models.reachability import ReachabilityRecord
from shards.models.shard import Shard, ShardState
from shards.models.suspension import Suspension

__all__ = [
    "Assignment",
    "Pool",
    "PoolMode",
    "ReachabilityRecord",
    "Shard",
    "ShardState",
    "ShardTemplate",
    "ShardType",
    "Suspension",
    "validate_slug",
]
