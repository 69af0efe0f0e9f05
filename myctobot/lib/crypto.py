"""Encryption of secrets at rest with keys that rotate, and digests of tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class CannotUnseal(Exception):
    """The sealed text belongs to a removed key or another row, or was changed."""


class Sealer:
    """Encrypt small values with the first key, and decrypt them with any key.

    The format is Fernet (AES-128-CBC with HMAC-SHA256): https://github.com/fernet/spec.

    Args:
        keys: Fernet keys (32 bytes, url-safe base64), newest first.

    Raises:
        ValueError: no key is given, or one is malformed.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys:
            raise ValueError("SECRETS_KEYS is empty: set it to one or more Fernet keys, newest first")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise ValueError(
                "SECRETS_KEYS contains a text that is not a Fernet key (32 bytes, url-safe base64)"
            ) from error

    def seal(self, values: Mapping[str, Any], *, bound_to: str) -> str:
        """Encrypt ``values`` so that ``unseal`` opens them only for the row named ``bound_to``."""
        text = json.dumps({"for": bound_to, "values": dict(values)}, separators=(",", ":"))
        return self._fernet.encrypt(text.encode()).decode()

    def unseal(self, sealed: str, *, bound_to: str) -> dict[str, Any]:
        """Decrypt a text that ``seal`` returned for the same row.

        Raises:
            CannotUnseal: no key opens the text, or it belongs to another row.
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
        """Encrypt a sealed text again, with the newest key.

        Raises:
            CannotUnseal: no key opens the text.
        """
        try:
            return self._fernet.rotate(sealed.encode()).decode()
        except InvalidToken as error:
            raise CannotUnseal("no key of SECRETS_KEYS opens this") from error


def derive_key(key: str, purpose: str) -> str:
    """Return the Fernet key for one purpose that HKDF-SHA256 (RFC 5869) derives from another Fernet key.

    Who has only the derived key opens nothing that was sealed with the other one.

    Args:
        key: Fernet key (32 bytes, url-safe base64).
        purpose: text that no other purpose uses.

    Raises:
        ValueError: the key is malformed.
    """
    Fernet(key)
    derived = HKDF(SHA256(), 32, salt=None, info=f"myctobot {purpose}".encode()).derive(base64.urlsafe_b64decode(key))
    return base64.urlsafe_b64encode(derived).decode()


def callback_keys_of(keys: Sequence[str]) -> list[str]:
    """Return the keys that open only the secrets that sign callbacks.

    Args:
        keys: those of ``SECRETS_KEYS``.

    Raises:
        ValueError: a key is malformed.
    """
    return [derive_key(key, "callbacks") for key in keys]


def new_token(prefix: str) -> str:
    """Return a random bearer token of 256 bits, such as ``mctb_…``; the prefix helps secret scanners."""
    return f"{prefix}_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """Return the SHA-256 in hex, which suffices for tokens of 256 random bits but not for passwords."""
    return hashlib.sha256(token.encode()).hexdigest()


def derive_token(prefix: str, key: str, *parts: str) -> str:
    """Return the token that HMAC-SHA256 under ``key`` derives from ``parts``; equal parts give equal tokens."""
    mac = hmac.new(key.encode(), "\0".join(parts).encode(), hashlib.sha256)
    return f"{prefix}_{mac.hexdigest()}"


def keyed_digest(key: str, text: str) -> str:
    """Return the HMAC-SHA256 of a guessable text, such as a request's body, which reveals nothing without the key."""
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()
