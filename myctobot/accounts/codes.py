"""Codes of a second factor: time-based ones (RFC 6238) and recovery codes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

import pyotp
from pyotp.exceptions import OTPVerificationError

from myctobot.lib.crypto import digest

ISSUER: Final = "MyCTOBot"
RECOVERY_CODES: Final = 10
DIGITS: Final = 6
# Steps of 30 s before and after the current one, because clocks of telephones differ.
_WINDOW: Final = 1
# Base 32 has no digits that resemble letters; 15 characters are 75 random bits.
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_GROUPS, _GROUP_LENGTH = 3, 5


def new_secret() -> str:
    """Return a random secret of 160 bits in base 32."""
    return pyotp.random_base32()


def matching_step(secret: str, code: str, now: float) -> int | None:
    """Return the number of the 30-second step whose code this is; None if it is not a current code.

    Args:
        now: seconds since 1970.
    """
    try:
        return pyotp.TOTP(secret).verify_and_get_timecode(code, for_time=now, valid_window=_WINDOW)
    except OTPVerificationError:
        return None


def plain_code(text: str) -> str:
    """Return a code without the spaces and dashes that people type."""
    return "".join(text.split()).replace("-", "").lower()


def is_time_based(code: str) -> bool:
    """Check for the form of a time-based code."""
    return len(code) == DIGITS and code.isascii() and code.isdigit()


@dataclass(frozen=True)
class RecoveryCodes:
    """New recovery codes, and the digests to store. A digest suffices, because each code has 75 random bits."""

    shown: tuple[str, ...]
    hashes: tuple[str, ...]


def new_recovery_codes() -> RecoveryCodes:
    """Return random codes, each of which replaces the telephone once."""
    codes = [
        ["".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS)]
        for _ in range(RECOVERY_CODES)
    ]
    return RecoveryCodes(
        tuple("-".join(groups) for groups in codes), tuple(recovery_hash("".join(groups)) for groups in codes)
    )


def recovery_hash(code: str) -> str:
    """Return the digest under which a recovery code is stored."""
    return digest(f"recovery:{plain_code(code)}")


def qr_code(secret: str, account: str) -> str:
    """Return an image for authenticator apps as a ``data:`` address, made without any other program or host."""
    # Every process of the control plane would import this for the sake of one page.
    import segno

    uri = pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=ISSUER)
    # A dark page needs the light border.
    return segno.make(uri, error="m").svg_data_uri(scale=5, light="#fff")
