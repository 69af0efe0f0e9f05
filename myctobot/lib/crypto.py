"""Sealing of secrets at rest, with keys that rotate, and digests of tokens."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


class CannotUnseal(Exception):
    """The sealed text was made with a key that is not among the present ones, for another row, or was changed."""


class Sealer:
    """Encrypts small values with the first key and decrypts with any (Fernet: AES-128-CBC with HMAC-SHA256).

    Args:
        keys: Fernet keys (32 bytes, url-safe base64), newest first.

    Raises:
        ValueError: there is no key, or one is malformed.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("SECRETS_KEYS is empty: set it to one or more Fernet keys, newest first")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise ValueError(
                "SECRETS_KEYS holds something that is no Fernet key (32 bytes, url-safe base64)"
            ) from error

    def seal(self, values: Mapping[str, Any], *, bound_to: str) -> str:
        """Encrypt ``values`` so that only the row named ``bound_to`` can be unsealed with them."""
        text = json.dumps({"for": bound_to, "values": dict(values)}, separators=(",", ":"))
        return self._fernet.encrypt(text.encode()).decode()

    def unseal(self, sealed: str, *, bound_to: str) -> dict[str, Any]:
        """Decrypt what ``seal`` made for the same row.

        Raises:
            CannotUnseal: see there.
        """
        try:
            content = json.loads(self._fernet.decrypt(sealed.encode()))
        except InvalidToken as error:
            raise CannotUnseal("no key of SECRETS_KEYS opens this; was an old key removed before rotation?") from error
        if content["for"] != bound_to:
            raise CannotUnseal("this was sealed for another row")
        values: dict[str, Any] = content["values"]
        return values

    def rotate(self, sealed: str) -> str:
        """Encrypt again with the newest key.

        Raises:
            CannotUnseal: no key opens it.
        """
        try:
            return self._fernet.rotate(sealed.encode()).decode()
        except InvalidToken as error:
            raise CannotUnseal("no key of SECRETS_KEYS opens this") from error


def new_token(prefix: str) -> str:
    """Make a random bearer token of 256 bits, such as ``mctb_…``; the prefix helps secret scanners."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """SHA-256 in hex. Enough for tokens of 256 random bits; never for passwords."""
    return hashlib.sha256(token.encode()).hexdigest()


def derive_token(prefix: str, key: str, *parts: str) -> str:
    """Make the token that belongs to ``parts``, the same each time, by HMAC-SHA256 under ``key``."""
    mac = hmac.new(key.encode(), "\0".join(parts).encode(), hashlib.sha256)
    return f"{prefix}_{mac.hexdigest()}"


def keyed_digest(key: str, text: str) -> str:
    """Digest a text that may be guessable, such as a request's body, so that the digest gives nothing away."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
