from __future__ import annotations

import json
from typing import Any

import pytest

from myctobot.gateway.errors import BadRequest
from myctobot.gateway.requests import bearer, parse_count_tokens, parse_messages

GOOD: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}


def test_a_sound_request_keeps_its_bytes_and_unknown_fields() -> None:
    body = json.dumps({**GOOD, "stream": True, "brand_new": {"x": 1}}).encode()
    request = parse_messages(body)
    assert (request.body, request.model, request.stream) == (body, "m", True)
    assert json.loads(request.body)["brand_new"] == {"x": 1}


def test_counting_needs_no_max_tokens() -> None:
    assert parse_count_tokens(json.dumps({k: v for k, v in GOOD.items() if k != "max_tokens"}).encode()).model == "m"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"model": "m\nforged log line"}, "model"),
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "10"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [*GOOD["messages"], {"content": "x"}]}, "messages.1.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["text"]}]}, "messages.0.content"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BadRequest, match=rf"^{named}\b"):
        parse_messages(json.dumps({**GOOD, **change}).encode())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="body must be"):
        parse_messages(body)


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({"x-api-key": "abc"}, "abc"),
        ({"authorization": "Bearer abc"}, "abc"),
        ({"x-api-key": "abc", "authorization": "Bearer other"}, "abc"),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "abc"}, None),
        ({"x-api-key": "two words"}, None),
        ({"x-api-key": "sch\u00fcssel"}, None),
        ({"x-api-key": "a" * 513}, None),
        ({"x-api-key": "a\x00b"}, None),
        ({}, None),
    ],
)
def test_the_token_is_found_when_it_can_be_one(headers: dict[str, str], token: str | None) -> None:
    assert bearer(headers) == token
