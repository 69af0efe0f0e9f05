"""Masking of secrets: whatever spelling a longer text gives them."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myctobot.contract.jobs import MASK, MAX_NESTING, MIN_SECRET_LENGTH, TOO_DEEP, Cleaner, secret_spellings

SECRET = "ghp_Ab3+/=\"'\\%x 9"
printable = st.text(alphabet=[chr(code) for code in range(32, 127)])
secrets = st.text(alphabet=[chr(code) for code in range(33, 127)], min_size=MIN_SECRET_LENGTH, max_size=60)


@given(secret=secrets, before=printable, after=printable)
def test_plain_text_that_holds_a_secret(secret: str, before: str, after: str) -> None:
    assert secret not in Cleaner([secret]).text(before + secret + after)


@given(secret=secrets, before=printable, after=printable)
def test_json_and_json_within_json(secret: str, before: str, after: str) -> None:
    once = json.dumps({"k": before + secret + after})
    cleaner = Cleaner([secret])
    assert json.dumps(secret)[1:-1] not in cleaner.text(once)
    assert json.dumps(json.dumps(secret)[1:-1])[1:-1] not in cleaner.text(json.dumps(once))


@given(secret=secrets, before=printable, after=printable)
def test_url_encoding(secret: str, before: str, after: str) -> None:
    cleaner = Cleaner([secret])
    assert quote(secret, safe="") not in cleaner.text(quote(before + secret + after, safe=""))
    assert quote(secret) not in cleaner.text(quote(before + secret + after))


@given(secret=secrets, before=printable, after=printable)
def test_url_encoding_in_lower_case(secret: str, before: str, after: str) -> None:
    # As other programs write it: the same escapes, with small letters.
    def encoded(text: str) -> str:
        return "".join(char if char.isalnum() or char in "_.-~" else f"%{ord(char):02x}" for char in text)

    assert encoded(secret) not in Cleaner([secret]).text(encoded(before + secret + after))


@given(secret=secrets, before=st.binary(max_size=20), after=st.binary(max_size=20), upper=st.booleans())
def test_hexadecimal_digits(secret: str, before: bytes, after: bytes, upper: bool) -> None:
    def digits(raw: bytes) -> str:
        return raw.hex().upper() if upper else raw.hex()

    assert digits(secret.encode()) not in Cleaner([secret]).text(digits(before + secret.encode() + after))


@given(secret=secrets, before=st.binary(max_size=20), after=st.binary(max_size=20), url_safe=st.booleans())
def test_base64_of_a_longer_text_leaves_nothing_to_decode(
    secret: str, before: bytes, after: bytes, url_safe: bool
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(before + secret.encode() + after).decode()
    cleaned = Cleaner([secret]).text(text)
    # At most one character at each edge also carries a neighbour's bits.
    masked = len(text) - len(cleaned) + len(MASK)
    assert MASK in cleaned
    assert masked >= len(secret) * 8 // 6 - 2


@given(secret=secrets, holes=st.lists(st.integers(0, 60), max_size=5))
def test_nul_characters_within_do_not_hide_a_secret(secret: str, holes: list[int]) -> None:
    text = secret
    for hole in holes:
        text = text[:hole] + "\x00" + text[hole:]
    assert secret not in Cleaner([secret]).text(text)


def test_short_values_are_left_alone() -> None:
    assert Cleaner(["git", ""]).text("git status") == "git status"


def test_a_secret_that_begins_another_leaves_no_rest_of_it() -> None:
    assert Cleaner(["abcdefgh", "abcdefghijkl"]).text("x abcdefghijkl y") == f"x {MASK} y"


@pytest.mark.parametrize("spelling", sorted(secret_spellings(SECRET)))
def test_every_spelling_is_masked_wherever_it_stands_in_a_value(spelling: str) -> None:
    value = {"list": [spelling, {"deep": f"x{spelling}y"}], f"key {spelling}": 1}
    assert spelling not in json.dumps(Cleaner([SECRET]).clean(value), ensure_ascii=False)


def test_nul_and_lone_surrogates_go_and_other_characters_stay() -> None:
    assert Cleaner().text("a\x00b \ud800 ü 😀") == "ab ? ü 😀"


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", [], {}, {"a": [None, 1]}])
def test_values_without_text_stay_as_they_are(value: object) -> None:
    assert Cleaner(["secret-secret"]).clean(value) == value


def test_nesting_is_bounded() -> None:
    value: object = "leaf"
    for _ in range(10_000):
        value = [value]
    cleaned = json.dumps(Cleaner().clean(value))
    assert cleaned == "[" * MAX_NESTING + f'"{TOO_DEEP}"' + "]" * MAX_NESTING
