"""Redaction of secrets in every encoding."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myctobot.contract.limits import MIN_SECRET_LENGTH
from myctobot.contract.redaction import (
    MASK,
    MAX_NESTING,
    TOO_DEEP,
    WITHHELD,
    Redactor,
    WithholdingRedactor,
    secret_encodings,
)

SECRET = "ghp_Ab3+/=\"'\\%x 9"
printable = st.text(alphabet=[chr(code) for code in range(32, 127)])
secrets = st.text(alphabet=[chr(code) for code in range(33, 127)], min_size=MIN_SECRET_LENGTH, max_size=60)


@given(secret=secrets, before=printable, after=printable)
def test_a_secret_in_plain_text(secret: str, before: str, after: str) -> None:
    assert secret not in Redactor([secret]).redact_text(before + secret + after)


@given(secret=secrets, before=printable, after=printable)
def test_json_and_json_within_json(secret: str, before: str, after: str) -> None:
    once = json.dumps({"k": before + secret + after})
    redactor = Redactor([secret])
    assert json.dumps(secret)[1:-1] not in redactor.redact_text(once)
    assert json.dumps(json.dumps(secret)[1:-1])[1:-1] not in redactor.redact_text(json.dumps(once))


@given(secret=secrets, before=printable, after=printable)
def test_url_encoding(secret: str, before: str, after: str) -> None:
    redactor = Redactor([secret])
    assert quote(secret, safe="") not in redactor.redact_text(quote(before + secret + after, safe=""))
    assert quote(secret) not in redactor.redact_text(quote(before + secret + after))


@given(secret=secrets, before=printable, after=printable)
def test_url_encoding_in_lower_case(secret: str, before: str, after: str) -> None:
    # Other programs write the same escapes with lower-case letters.
    def encoded(text: str) -> str:
        return "".join(char if char.isalnum() or char in "_.-~" else f"%{ord(char):02x}" for char in text)

    assert encoded(secret) not in Redactor([secret]).redact_text(encoded(before + secret + after))


@given(secret=secrets, before=st.binary(max_size=20), after=st.binary(max_size=20), upper=st.booleans())
def test_hexadecimal_digits(secret: str, before: bytes, after: bytes, upper: bool) -> None:
    def digits(raw: bytes) -> str:
        return raw.hex().upper() if upper else raw.hex()

    assert digits(secret.encode()) not in Redactor([secret]).redact_text(digits(before + secret.encode() + after))


@given(secret=secrets, before=st.binary(max_size=20), after=st.binary(max_size=20), url_safe=st.booleans())
def test_base64_of_a_longer_text_has_nothing_to_decode(
    secret: str, before: bytes, after: bytes, url_safe: bool
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(before + secret.encode() + after).decode()
    cleaned = Redactor([secret]).redact_text(text)
    # At most one character at each edge also encodes bits of a neighbouring byte.
    masked = len(text) - len(cleaned) + len(MASK)
    assert MASK in cleaned
    assert masked >= len(secret) * 8 // 6 - 2


@given(secret=secrets, holes=st.lists(st.integers(0, 60), max_size=5))
def test_nul_characters_do_not_hide_a_secret(secret: str, holes: list[int]) -> None:
    text = secret
    for hole in holes:
        text = text[:hole] + "\x00" + text[hole:]
    assert secret not in Redactor([secret]).redact_text(text)


def test_short_values_are_not_masked() -> None:
    assert Redactor(["git", ""]).redact_text("git status") == "git status"


def test_a_secret_that_is_a_prefix_of_another_leaves_no_rest() -> None:
    assert Redactor(["abcdefgh", "abcdefghijkl"]).redact_text("x abcdefghijkl y") == f"x {MASK} y"


@pytest.mark.parametrize("encoding", sorted(secret_encodings(SECRET)))
def test_every_encoding_is_masked_anywhere_in_a_value(encoding: str) -> None:
    value = {"list": [encoding, {"deep": f"x{encoding}y"}], f"key {encoding}": 1}
    assert encoding not in json.dumps(Redactor([SECRET]).redact(value), ensure_ascii=False)


def test_nul_and_lone_surrogates_are_dropped() -> None:
    assert Redactor().redact_text("a\x00b \ud800 ü 😀") == "ab ? ü 😀"


@pytest.mark.parametrize("value", [None, True, 0, 1.5, "", [], {}, {"a": [None, 1]}])
def test_values_without_text_stay_as_they_are(value: object) -> None:
    assert Redactor(["secret-secret"]).redact(value) == value


def test_nesting_is_bounded() -> None:
    value: object = "leaf"
    for _ in range(10_000):
        value = [value]
    cleaned = json.dumps(Redactor().redact(value))
    assert cleaned == "[" * MAX_NESTING + f'"{TOO_DEEP}"' + "]" * MAX_NESTING


def test_unknown_secrets_withhold_every_text_that_could_contain_one() -> None:
    redactor = WithholdingRedactor()
    event = {"at": "2026-01-02T03:04:05.123456+00:00", "text": "a-secret-value", "input": {"a-secret-key": ["short"]}}
    assert redactor.redact(event) == {
        "at": event["at"],
        "text": WITHHELD,
        "input": {WITHHELD: ["short"]},
    }
    assert redactor.redact({"insertions": 12345678, "completed": None}) == {"insertions": 12345678, "completed": None}


def test_a_secret_may_be_added_later() -> None:
    redactor = Redactor(["first-secret-value"])
    redactor.add_secret("second-secret-value")
    redactor.add_secret("short")
    assert redactor.redact_text("first-secret-value second-secret-value short") == "*** *** short"
