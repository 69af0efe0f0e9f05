"""Redaction of secrets in text and JSON values."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from myctobot.contract.limits import MIN_SECRET_LENGTH

_ESCAPE = re.compile(r"%[0-9A-F]{2}")
# RFC 4648, section 5: the alphabet of base64 for URLs.
_URL_SAFE = str.maketrans("+/", "-_")


def secret_encodings(secret: str) -> set[str]:
    """Return every encoding in which a secret is searched.

    These are plain text, JSON and JSON within JSON, URL encoding (``%2F`` and ``%2f``), hexadecimal digits, and base64
    at each of its three offsets in a text.
    """
    raw = secret.encode()
    once = json.dumps(secret)[1:-1]
    found = {secret, once, json.dumps(once)[1:-1], raw.hex(), raw.hex().upper()}
    for escaped in (quote(secret, safe=""), quote(secret)):
        found |= {escaped, _ESCAPE.sub(lambda match: match.group().lower(), escaped)}
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        # Leave out the characters that also encode a neighbouring byte, because they vary.
        start = (0, 2, 3)[offset]
        end = len(text) if (len(raw) + offset) % 3 == 0 else len(text) - 1
        found |= {text[start:end], text[start:end].translate(_URL_SAFE)}
    return {encoding for encoding in found if len(encoding) >= MIN_SECRET_LENGTH}


MASK = "***"

# Levels of JSON within an event's data; TOO_DEEP replaces the levels below.
MAX_NESTING, TOO_DEEP = 50, "(nested too deep)"


class Redactor:
    """Mask of secrets in every string of a JSON value; it also drops NUL characters and lone surrogates.

    Args:
        secrets: plain values; those shorter than ``MIN_SECRET_LENGTH`` are ignored, as they would mask ordinary words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        encodings: set[str] = set()
        for secret in secrets:
            if len(secret) >= MIN_SECRET_LENGTH:
                encodings |= secret_encodings(secret)
        # Replace the longest first: a short encoding may be a part of a longer one.
        self._encodings = sorted(encodings, key=len, reverse=True)

    def add_secret(self, secret: str) -> None:
        """Mask a further secret from now on."""
        if len(secret) >= MIN_SECRET_LENGTH:
            self._encodings = sorted({*self._encodings, *secret_encodings(secret)}, key=len, reverse=True)

    def redact_text(self, value: str) -> str:
        """Return the text with every secret masked."""
        # PostgreSQL stores neither NUL nor lone surrogates. Drop them first: a NUL inside a secret would hide it.
        value = value.replace("\x00", "")
        if not value.isascii():
            value = value.encode("utf-8", "replace").decode("utf-8")
        # Most keys and many values are shorter than any secret.
        if len(value) < MIN_SECRET_LENGTH:
            return value
        for encoding in self._encodings:
            if encoding in value:
                value = value.replace(encoding, MASK)
        return value

    def redact(self, value: Any, _depth: int = 0) -> Any:
        """Mask every string of a JSON value, keys too.

        Values that are nested too deeply are dropped, because an agent controls the input of its tools.
        """
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, list | dict) and _depth >= MAX_NESTING:
            return TOO_DEEP
        if isinstance(value, list):
            return [self.redact(item, _depth + 1) for item in value]
        if isinstance(value, dict):
            return {self.redact_text(str(key)): self.redact(item, _depth + 1) for key, item in value.items()}
        return value


WITHHELD = "(withheld: a secret of this job cannot be read any more, so it cannot be masked)"
# Names of our own formats; other keys come from the agent.
_OWN_KEYS = frozenset(
    (
        *("branch", "checked_at", "cli_version", "commits", "completed", "cost_usd", "deletions", "error", "files"),
        *("head", "input", "input_tokens", "insertions", "is_error", "mcp_servers", "message", "model", "name", "note"),
        *("outcome", "output", "output_tokens", "phase", "processes_killed", "processes_left", "result", "retryable"),
        *("status", "summary", "text", "tools", "turns", "usage", "wip_branch", "wip_head"),
    )
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


class WithholdingRedactor(Redactor):
    """Redactor for unknown secrets: it replaces every text that could contain one, except times and our own keys."""

    def redact_text(self, value: str) -> str:
        value = super().redact_text(value)
        return value if len(value) < MIN_SECRET_LENGTH or _TIME.fullmatch(value) else WITHHELD

    def redact(self, value: Any, _depth: int = 0) -> Any:
        if not isinstance(value, dict) or _depth >= MAX_NESTING:
            return super().redact(value, _depth)
        return {
            str(key) if key in _OWN_KEYS else self.redact_text(str(key)): self.redact(item, _depth + 1)
            for key, item in value.items()
        }
