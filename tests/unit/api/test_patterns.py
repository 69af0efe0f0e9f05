"""Patterns of the API's document, compared with the functions that check requests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myctobot.contract.limits import MIN_SECRET_LENGTH
from myctobot.lib.patterns import NOT_BLANK_PATTERN
from myctobot.tenants.secret_bindings import HOST_PATTERN, SecretBinding, SecretPurpose, binding_problems
from myctobot.tenants.secrets import MAX_SECRET_LENGTH, SECRET_PATTERN, value_problem

WHITE_SPACE = "".join(char for char in map(chr, range(0x10000)) if char.isspace())


@given(st.text(st.sampled_from(WHITE_SPACE + "\x00x\ufeff\u200b"), max_size=4) | st.text(max_size=4))
def test_a_text_that_is_not_blank(text: str) -> None:
    is_valid = bool(text.strip()) and "\x00" not in text
    # NUL is no white space, so a text of it alone is refused for another reason.
    assert (re.fullmatch(NOT_BLANK_PATTERN, text) is not None) == is_valid


@given(st.text(st.sampled_from("ab ~\n\t\x00\x7fé"), max_size=24) | st.from_regex(SECRET_PATTERN, fullmatch=True))
def test_the_value_of_a_secret(text: str) -> None:
    is_valid = value_problem(text) is None
    has_length = MIN_SECRET_LENGTH <= len(text) <= MAX_SECRET_LENGTH
    assert (has_length and re.fullmatch(SECRET_PATTERN, text) is not None) == is_valid


@pytest.mark.parametrize(
    ("host", "is_valid"),
    [
        *((host, True) for host in ("github.com", "GitHub.com", "*.example.com", "[FD00::2]:443", "a:1", "a:65535")),
        *(
            (host, False)
            for host in ("", "a:0", "a:65536", "a:99999", "*", "*.*.com", "https://a", "a/b", "\u212a.com")
        ),
    ],
)
def test_the_host_of_a_secret(host: str, is_valid: bool) -> None:
    assert (re.fullmatch(HOST_PATTERN, host) is not None) == is_valid
    if host.isascii():
        problems = binding_problems(SecretBinding(SecretPurpose.REPOSITORY, (host.lower(),)))
        assert (problems == {}) == is_valid
