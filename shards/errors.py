"""What can go wrong with shards."""

from __future__ import annotations

from myctobot.errors import NotAuthenticated


class UnknownShardKey(NotAuthenticated):
    """The shard key is not valid: enrol the shard again, or correct shard_key in its config.json."""

    code = "unknown_shard_key"
