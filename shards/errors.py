"""What can go wrong with shards."""

from __future__ import annotations

from myctobot.errors import Conflict, NotAuthenticated, NotFound


class UnknownShardKey(NotAuthenticated):
    """The shard key is not valid: enrol the shard again, or correct shard_key in its config.json."""

    code = "unknown_shard_key"


class UnknownShard(NotFound):
    """There is no shard of that name."""

    code = "unknown_shard"


class AlreadyClosed(Conflict):
    """It is drained or paused already."""

    code = "already_closed"


class NothingToReopen(Conflict):
    """It is neither drained nor paused."""

    code = "nothing_to_reopen"
