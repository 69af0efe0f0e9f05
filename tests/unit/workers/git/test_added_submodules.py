from __future__ import annotations

import pytest

from workers.git.added_submodules import is_remote


@pytest.mark.parametrize(
    "url", ["https://example.com/a.git", "HTTP://example.com/a", "ssh://git@example.com:22/a", "git@example.com:a/b"]
)
def test_an_address_of_a_server_is_remote(url: str) -> None:
    assert is_remote(url)


@pytest.mark.parametrize(
    "url",
    ["/tmp/lib", "lib", "./lib", "../lib.git", "file:///tmp/lib", "FILE://host/lib", "https://", "ext::sh -c x", ""],
)
def test_a_path_is_not_remote(url: str) -> None:
    assert not is_remote(url)
