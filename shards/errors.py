"""What can go wrong with shards."""

from __future__ import annotations

from myctobot.errors import Conflict, MyctobotError, NotAuthenticated, NotFound


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


class WrongState(Conflict):
    """The shard is in a state in which that cannot be done."""

    code = "wrong_state"


class OperationUnderWay(Conflict):
    """Something else is being done with the shard; wait until it is done."""

    code = "operation_under_way"
    retryable = True


class BadEnrolment(NotAuthenticated):
    """The enrolment token is not valid, was used already, or has expired: make a new one for the shard."""

    code = "bad_enrolment"


class BrokerUnreachable(MyctobotError):
    """The broker does not answer; try again."""

    code = "broker_unreachable"
    http_status = 503
    retryable = True


class BrokerTooOld(Conflict):
    """The broker cannot give each shard a user of its own: install Redis 7.0 or newer, or Valkey."""

    code = "broker_too_old"


class BrokerRefused(MyctobotError):
    """The user in REDIS_URL may not manage the broker's users: allow it +acl, +client|kill and +info."""

    code = "broker_refused"
    http_status = 503


class ShardInUse(Conflict):
    """The shard cannot be removed yet."""

    code = "shard_in_use"


class NoAnswer(Conflict):
    """The shard's worker does not answer."""

    code = "no_answer"
    retryable = True
