"""``/shard/v1/enroll``: a new shard exchanges its one-time token for its key and its configuration."""

from __future__ import annotations

from typing import Final

from myctobot.contract.jobs import EnrolAnswer
from myctobot.errors import InvalidRequest
from shards.operations.enrolment import enrol
from shards.shard_api.call import Call
from shards.shard_api.validation import shape_of

PATH: Final = "enroll"
_MOST_TOKEN: Final = 200
# Anybody may call this: not much is read of what they send.
_MOST_BYTES: Final = 4096


def take_enrolment(call: Call) -> EnrolAnswer:
    """Raises BadEnrolment: the token opens nothing."""
    if len(call.body) > _MOST_BYTES:
        raise InvalidRequest(f"The body has more than {_MOST_BYTES} bytes; send the token alone.")
    with shape_of(call.json()) as sent:
        token = sent.text("token", _MOST_TOKEN)
    return enrol(token)
