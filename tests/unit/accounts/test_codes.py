from __future__ import annotations

import pyotp
import pytest

from myctobot.accounts.codes import (
    is_time_based,
    matching_step,
    new_recovery_codes,
    new_secret,
    plain_code,
    qr_code,
    recovery_hash,
)

NOW = 1_800_000_015.0
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.mark.parametrize(("offset", "step"), [(-60, None), (-30, -1), (0, 0), (30, 1), (60, None)])
def test_a_code_matches_one_step_around_now(offset: int, step: int | None) -> None:
    current = int(NOW) // 30
    expected = None if step is None else current + step
    assert matching_step(SECRET, pyotp.TOTP(SECRET).at(NOW + offset), NOW) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [("123456", True), ("12345", False), ("1234567", False), ("12345a", False), ("١٢٣٤٥٦", False), ("", False)],
)
def test_the_form_of_a_time_based_code(code: str, expected: bool) -> None:
    assert is_time_based(code) is expected


def test_people_may_type_spaces_dashes_and_capitals() -> None:
    assert plain_code(" 123 456\n") == "123456"
    assert recovery_hash("ABCDE-abcde-22222") == recovery_hash("abcde abcde 22222")


def test_recovery_codes_are_random_and_stored_as_digests() -> None:
    one, other = new_recovery_codes(), new_recovery_codes()
    assert len({*one.shown, *other.shown}) == 20
    assert list(map(recovery_hash, one.shown)) == list(one.hashes)


def test_the_image_contains_no_other_address() -> None:
    image = qr_code(new_secret(), "ann")
    assert image.startswith("data:image/svg+xml")
    assert "//" not in image.replace("http://www.w3.org/2000/svg", "").replace("http%3A//www.w3.org/2000/svg", "")
