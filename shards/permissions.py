"""Permissions of operators by action: the one table of the panel, the REST API and the operators' pages."""

from __future__ import annotations

from typing import Final

from myctobot.tenants.permissions import ModelPermission

VIEW_SHARD: Final = ModelPermission("shards", "shard", "view")
ADD_SHARD: Final = ModelPermission("shards", "shard", "add")
CHANGE_SHARD: Final = ModelPermission("shards", "shard", "change")
DELETE_SHARD: Final = ModelPermission("shards", "shard", "delete")
VIEW_POOL: Final = ModelPermission("shards", "pool", "view")
CHANGE_POOL: Final = ModelPermission("shards", "pool", "change")
VIEW_TEMPLATE: Final = ModelPermission("shards", "shardtemplate", "view")
VIEW_ASSIGNMENT: Final = ModelPermission("shards", "assignment", "view")
VIEW_OPERATION: Final = ModelPermission("shards", "operation", "view")
VIEW_DECISION: Final = ModelPermission("shards", "scalingdecision", "view")
VIEW_SUSPENSION: Final = ModelPermission("shards", "suspension", "view")
VIEW_AUDIT: Final = ModelPermission("tenants", "auditentry", "view")

# Actions on one shard.
TEST = READ_LOG = VIEW_SHARD
DRAIN = RESUME = ACTIVATE = OPERATE = ISSUE_TOKEN = CHANGE_SHARD
# Actions on many shards.
PREVIEW = VIEW_SHARD
PAUSE_CLASS = CHANGE_SHARD
PAUSE_POOL = CHANGE_POOL
# A complete list of assignments removes rows, changes rows and adds rows.
REPLACE_ASSIGNMENTS: Final = (
    ModelPermission("shards", "assignment", "add"),
    ModelPermission("shards", "assignment", "change"),
    ModelPermission("shards", "assignment", "delete"),
)
