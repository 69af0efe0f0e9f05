"""Errors of shards."""

from __future__ import annotations

from myctobot.errors import RETRY_AFTER_S, Conflict, MyctobotError, NotAuthenticated, NotFound


class UnknownShardKey(NotAuthenticated):
    """The shard key is not valid. Enrol the shard again, or correct shard_key in its config.json."""

    code = "unknown_shard_key"


class UnknownShard(NotFound):
    """There is no shard with this name."""

    code = "unknown_shard"


class AlreadySuspended(Conflict):
    """The shard, pool or class is already drained or paused."""

    code = "already_suspended"


class NothingToResume(Conflict):
    """The shard, pool or class is not drained or paused."""

    code = "nothing_to_resume"


class WrongState(Conflict):
    """The shard's state does not allow the action."""

    code = "wrong_state"


class OperationUnderWay(Conflict):
    """Another operation on the shard is in progress; wait until it has ended."""

    code = "operation_under_way"
    retryable = True


class BadEnrolment(NotAuthenticated):
    """The enrolment token is not valid, was used or has expired. Issue a new one for the shard."""

    code = "bad_enrolment"


class InsecureLink(Conflict):
    """The shard's key would travel in clear text. Use https:// and rediss://, or set SHARD_PLAIN_NETWORKS."""

    code = "insecure_link"


class BrokerUnreachable(MyctobotError):
    """The broker does not answer; try again."""

    code = "broker_unreachable"
    http_status = 503
    retryable = True
    retry_after_s = RETRY_AFTER_S


class BrokerTooOld(Conflict):
    """The broker cannot give each shard its own user. Install Redis 7.0 or newer, or Valkey."""

    code = "broker_too_old"


class BrokerRefused(MyctobotError):
    """The user in REDIS_URL may not manage the broker's users. Grant it +acl, +client|kill and +info."""

    code = "broker_refused"
    http_status = 503
    retry_after_s = RETRY_AFTER_S


class ShardInUse(Conflict):
    """The shard cannot be removed yet."""

    code = "shard_in_use"


class ShardExists(Conflict):
    """A shard has this name already."""

    code = "shard_exists"


class DefaultTaken(Conflict):
    """The tenant has another default already."""

    code = "default_taken"


class NoAnswer(Conflict):
    """The shard's worker does not answer."""

    code = "no_answer"
    retryable = True
