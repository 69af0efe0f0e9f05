"""Parse JSON from callers, with bounds on size and depth."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import IO, Any, Final

from rest_framework.parsers import JSONParser

from myctobot.contract.limits import MAX_REQUEST_BYTES
from myctobot.errors import InvalidRequest, RequestTooLarge

# No valid request is deeper, and recursive code can handle this depth.
MAX_DEPTH: Final = 100


class MalformedJson(InvalidRequest):
    """The body is not well-formed JSON."""

    code = "parse_error"


class BoundedJSONParser(JSONParser):
    """Parser for JSON of at most ``view.max_body_bytes`` bytes (default 1 MiB), independent of Content-Length."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        limit: int = getattr((parser_context or {}).get("view"), "max_body_bytes", MAX_REQUEST_BYTES)
        return parsed_json(stream.read(limit + 1), limit)


def parsed_json(body: bytes, limit: int = MAX_REQUEST_BYTES) -> Any:
    """Parse a body as JSON.

    Args:
        body: the bytes; the first ``limit + 1`` suffice if it is longer.
        limit: maximum number of bytes.

    Raises:
        RequestTooLarge: the body has more bytes.
        MalformedJson: the body is not JSON, has a repeated key or an infinite number, or is nested too deeply.
    """
    if len(body) > limit:
        raise RequestTooLarge(limit)
    try:
        parsed = json.loads(body.decode(), parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_object)
    except ValueError as error:
        raise MalformedJson(f"The body is not well-formed JSON: {error}") from error
    except RecursionError as error:
        raise MalformedJson(f"The JSON is nested more than {MAX_DEPTH} levels deep.") from error
    if not _is_shallow(parsed):
        raise MalformedJson(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    return parsed


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    # Parsers differ in which of two values counts, so a proxy may have checked the other value.
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:60]!r} occurs twice in one object")
            seen.add(key)
    return found


def _finite(text: str) -> float:
    value = float(text)
    # PostgreSQL's jsonb has no infinity, which Python would write.
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
