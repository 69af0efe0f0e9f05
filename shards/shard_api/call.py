"""A call of the shard API, and its answer, with no web framework around them.

Runners and workers call many times a second. Django's way from a request to a view and back costs more than most of
what they ask for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from myctobot.api.errors import body_of
from myctobot.api.parsing import parsed_json
from myctobot.contract.jobs import CLAIM_HEADER, MAX_BATCH_BYTES, MAX_EVENT_BYTES
from myctobot.errors import MyctobotError
from myctobot.lib.crypto import digest
from myctobot.web.threads import Answer
from shards.errors import UnknownShardKey

# A batch closes when it passes its bound, so one event may stand over it; JSON's own signs come on top.
MAX_BODY_BYTES = MAX_BATCH_BYTES + 2 * MAX_EVENT_BYTES


@dataclass(frozen=True)
class Call:
    """What was sent.

    Attributes:
        method: of HTTP.
        path: below ``/shard/v1/``.
        headers: by lower-case names.
        body: its first ``MAX_BODY_BYTES + 1`` bytes at most.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def key_hash(self) -> str:
        """The digest of the shard key in ``Authorization: Bearer mcts_…``.

        Raises:
            UnknownShardKey: there is none; whether it is anybody's is seen in the database.
        """
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnknownShardKey
        return digest(token.strip())

    @property
    def claim_token(self) -> str | None:
        """What proves which runner calls; None when the header is missing."""
        return self.headers.get(CLAIM_HEADER.lower()) or None

    def json(self) -> Any:
        """Raises InvalidRequest: the body is too large, or no well-formed JSON."""
        return parsed_json(self.body, MAX_BODY_BYTES)


def answer_with(value: Any, status: int = 200) -> Answer:
    """Answer with a value as JSON."""
    return Answer(status, [(b"content-type", b"application/json")], json.dumps(value, separators=(",", ":")).encode())


def answer_to(error: MyctobotError) -> Answer:
    """Say what is wrong."""
    return answer_with(body_of(error), error.http_status)
