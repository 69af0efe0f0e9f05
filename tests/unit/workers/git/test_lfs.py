from __future__ import annotations

import hashlib

import pytest

from tests.fixtures.repos import lfs_pointer
from workers.git.lfs import LfsObject, parse_pointer


def test_a_pointer_is_known() -> None:
    digest = hashlib.sha256(b"content").hexdigest()
    assert parse_pointer(lfs_pointer(b"content").encode()) == LfsObject(digest, 7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"content",
        lfs_pointer(b"content").encode() + b"more",
        lfs_pointer(b"content").encode().replace(b"sha256:", b"sha1:"),
        b"version https://git-lfs.github.com/spec/v1\n" + b"x" * 2000,
    ],
)
def test_anything_else_is_no_pointer(data: bytes) -> None:
    assert parse_pointer(data) is None
