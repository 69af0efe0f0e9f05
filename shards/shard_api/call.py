"""Calls of the shard API and their responses, without a web framework.

Runners and workers call many times a second, and Django's request handling would cost more than most of these calls.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.utils.functional import cached_property

from myctobot.api.errors import body_of, retry_headers
from myctobot.api.parsing import parsed_json
from myctobot.contract.limits import MAX_BATCH_BYTES, MAX_EVENT_BYTES
from myctobot.contract.runner import CLAIM_HEADER
from myctobot.errors import MyctobotError
from myctobot.lib.crypto import digest
from myctobot.web.response import RawResponse
from shards.errors import UnknownShardKey

# The last event of a batch may exceed the batch's limit, and JSON adds its own characters.
MAX_BODY_BYTES = MAX_BATCH_BYTES + 2 * MAX_EVENT_BYTES


@dataclass(frozen=True)
class ShardCall:
    """Call of the shard API.

    Attributes:
        method: HTTP method.
        path: path below ``/shard/v1/``.
        headers: headers by lower-case names.
        body: the bytes.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @cached_property
    def key_hash(self) -> str:
        """Return the digest of the shard key in ``Authorization: Bearer mcts_…``.

        Raises:
            UnknownShardKey: there is no key. The caller looks the digest up in the database.
        """
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise UnknownShardKey
        return digest(token.strip())

    @property
    def claim_token(self) -> str | None:
        """Return the token that identifies the runner, or None if the header is missing."""
        return self.headers.get(CLAIM_HEADER.lower()) or None

    def json(self) -> Any:
        """Return the parsed body.

        Raises:
            InvalidRequest: the body is too large or is not valid JSON.
        """
        return parsed_json(self.body, MAX_BODY_BYTES)


def answer_with(value: Any, status: int = 200) -> RawResponse:
    """Return a response with a value as JSON."""
    return RawResponse(
        status, [(b"content-type", b"application/json")], json.dumps(value, separators=(",", ":")).encode()
    )


def answer_to(error: MyctobotError) -> RawResponse:
    """Return the response for an error."""
    found = answer_with(body_of(error), error.http_status)
    more = [(name.lower().encode(), value.encode()) for name, value in retry_headers(error).items()]
    return replace(found, headers=[*found.headers, *more]) if more else found
