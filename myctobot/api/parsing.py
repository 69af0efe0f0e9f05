"""Reading what others send: bounded in size and depth before anything looks at it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any, Final

from rest_framework.parsers import JSONParser

from myctobot.contract.jobs import MAX_REQUEST_BYTES
from myctobot.errors import InvalidRequest

# Deeper than any request of ours, and shallow enough for every recursion over it.
MAX_DEPTH: Final = 100


class RequestTooLarge(InvalidRequest):
    """The request is too large."""

    code = "request_too_large"
    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request has more than {limit} bytes; send less at once.")


class MalformedJson(InvalidRequest):
    """The body is no well-formed JSON."""

    code = "parse_error"


class BoundedJSONParser(JSONParser):
    """JSON of at most ``view.max_body_bytes`` bytes (else 1 MiB), whatever its Content-Length says."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit: int = getattr((parser_context or {}).get("view"), "max_body_bytes", MAX_REQUEST_BYTES)
        return parsed_json(stream.read(limit + 1), limit)


def parsed_json(body: bytes, limit: int = MAX_REQUEST_BYTES) -> Any:
    """Read a body as JSON.

    Args:
        body: as it came; of one that is longer than ``limit`` its first ``limit + 1`` bytes do.
        limit: bytes.

    Raises:
        RequestTooLarge: it has more bytes.
        MalformedJson: it is something else, has a key twice or an infinite number, or is nested too deep.
    """
    if len(body) > limit:
        raise RequestTooLarge(limit)
    try:
        parsed = json.loads(body.decode(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_object)
    except ValueError as error:
        raise MalformedJson(f"The body is no well-formed JSON: {error}") from error
    except RecursionError as error:
        raise MalformedJson(f"The JSON is nested more than {MAX_DEPTH} levels deep.") from error
    if not _is_shallow(parsed):
        raise MalformedJson(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    return parsed


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON's")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # Readers differ in which of two values counts, so a proxy may have checked the other one.
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:60]!r} stands twice in one object")
            seen.add(key)
    return found


def _finite(text: str) -> float:
    value = float(text)
    # PostgreSQL's jsonb knows no infinity, and Python's would be written as one.
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]} is too large")
    return value


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return True
    return False
