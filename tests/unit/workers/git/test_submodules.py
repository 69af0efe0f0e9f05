from __future__ import annotations

import pytest

from workers.git.submodules import listed_reasons, parse_modules, resolve_url

HTTPS = "https://git.example.com:8443/group/app.git"
PLAIN = "https://git.example.com/group/app.git"
SSH = "ssh://git@git.example.com/group/app.git"


@pytest.mark.parametrize(
    ("repository", "url", "expected"),
    [
        (HTTPS, "../lib.git", "https://git.example.com:8443/group/lib.git"),
        (HTTPS, "../../other/lib", "https://git.example.com:8443/other/lib"),
        (HTTPS, "./lib", "https://git.example.com:8443/group/app.git/lib"),
        (HTTPS, "../../../../lib", "https://git.example.com:8443/lib"),
        (SSH, "../lib.git", "ssh://git@git.example.com/group/lib.git"),
        (PLAIN, "https://git.example.com/other/lib.git", "https://git.example.com/other/lib.git"),
        (PLAIN, "git@git.example.com:other/lib.git", "https://git.example.com/other/lib.git"),
        (PLAIN, "ssh://git@git.example.com/other/lib.git", "https://git.example.com/other/lib.git"),
        (PLAIN, "git://GIT.example.com/other/lib.git", "https://git.example.com/other/lib.git"),
        (SSH, "https://git.example.com/other/lib.git", "ssh://git@git.example.com/other/lib.git"),
        (PLAIN, "https://git.example.com:444/other/lib.git", None),
        (PLAIN, "https://other.example.com/lib.git", None),
        (PLAIN, "https://git.example.com.evil.example/lib.git", None),
        (PLAIN, "https://git.example.com@evil.example/lib.git", None),
        (PLAIN, "git@other.example.com:lib.git", None),
        (PLAIN, "file:///srv/lib.git", None),
        (PLAIN, "/srv/lib.git", None),
        (PLAIN, "ext::sh -c id", None),
        (PLAIN, "https://[bad/lib.git", None),
        (PLAIN, "", None),
        ("file:///srv/app.git", "../lib.git", "file:///srv/lib.git"),
    ],
)
def test_only_the_repositorys_own_host_is_reached(repository: str, url: str, expected: str | None) -> None:
    assert resolve_url(repository, url) == expected


def test_entries_need_a_path_and_an_address() -> None:
    text = "submodule.a.b.path\nx\0submodule.a.b.url\n../y\0submodule.c.path\nz\0submodule.d.update\n!sh\0core.x\n1\0"
    assert parse_modules(text) == [("a.b", "x", "../y")]


def test_a_long_list_is_cut() -> None:
    assert listed_reasons([f"m{number}" for number in range(12)]).endswith("m9 and 2 more")
