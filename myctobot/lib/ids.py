"""Random public identifiers."""

from __future__ import annotations

import secrets

# Crockford's base 32 in lower case has no letters that resemble digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def public_id(prefix: str) -> str:
    """Return an unguessable id of 100 random bits, such as ``job_7h2k…``."""
    # The alphabet has 32 characters, so the five low bits of a random byte choose each with the same probability.
    return f"{prefix}_" + "".join(_ALPHABET[byte & 31] for byte in secrets.token_bytes(20))
