"""``/shard/v1/enroll``: exchange of a one-time token for a shard's key and configuration."""

from __future__ import annotations

from typing import Final

from myctobot.contract.shards import EnrolAnswer
from shards.operations.enrolment import enrol
from shards.shard_api.call import ShardCall
from shards.shard_api.validation import read_fields

PATH: Final = "enroll"
# Callers without a key reach this, so a body has little more than the token.
MAX_BODY_BYTES: Final = 4096
_MAX_TOKEN: Final = 200


def receive_enrolment(call: ShardCall) -> EnrolAnswer:
    """Exchange the token of a call.

    Raises:
        BadEnrolment: the token is not valid.
        InvalidRequest: the body is malformed.
    """
    with read_fields(call.json()) as sent:
        token = sent.text("token", _MAX_TOKEN)
    return enrol(token)
