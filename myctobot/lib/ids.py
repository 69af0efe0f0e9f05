"""Public identifiers."""

from __future__ import annotations

import secrets

# Crockford's base 32 in lower case: no letters that are mistaken for digits.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def public_id(prefix: str) -> str:
    """Make an unguessable id of 100 random bits, such as ``job_7h2k…``."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(20))
