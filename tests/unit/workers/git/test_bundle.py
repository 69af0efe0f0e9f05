from __future__ import annotations

import pytest

from workers.git.bundle import Header, parse_header

A, B = b"a" * 40, b"b" * 40
SIGNATURE = b"# v2 git bundle\n"


def test_a_header_has_the_refs_and_the_offset_of_the_pack() -> None:
    data = SIGNATURE + b"-" + A + b" the base\n" + B + b" HEAD\n" + B + b" refs/heads/x\n\nPACK..."
    header = parse_header(data)
    assert header == Header({"HEAD": B.decode(), "refs/heads/x": B.decode()}, data.index(b"PACK"))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"#!/bin/sh\n\n", id="a program"),
        pytest.param(b"# v3 git bundle\n@filter=x\n" + B + b" HEAD\n\n", id="another version"),
        pytest.param(SIGNATURE + B + b" HEAD\n", id="no end"),
        pytest.param(SIGNATURE + b"\n\nPACK", id="no refs"),
        pytest.param(SIGNATURE + B + b" refs/tags/x\n\n", id="a tag"),
        pytest.param(SIGNATURE + b"--upload-pack=x HEAD\n\n", id="no object name"),
        pytest.param(SIGNATURE + b"".join(B + b" refs/heads/%d\n" % n for n in range(20)) + b"\n", id="many refs"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse_header(data)
