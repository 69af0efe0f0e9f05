"""Links of results lead to the repository's own host, and hostile parts make none."""

from __future__ import annotations

import pytest

from myctobot.dashboards.repository_links import ResultLinks, result_links

SHA = "1f6f2d68b7" * 4


@pytest.mark.parametrize(
    ("repo_url", "branch", "commit"),
    [
        ("https://github.com/u/r.git", "https://github.com/u/r/tree/fix/it", "https://github.com/u/r/commit"),
        ("https://github.com/u/r/", "https://github.com/u/r/tree/fix/it", "https://github.com/u/r/commit"),
        ("ssh://git@github.com/u/r.git", "https://github.com/u/r/tree/fix/it", "https://github.com/u/r/commit"),
        ("https://gitlab.com/g/s/r", "https://gitlab.com/g/s/r/-/tree/fix/it", "https://gitlab.com/g/s/r/-/commit"),
        ("ssh://git@gitlab.example.com:2222/g/r.git", "https://gitlab.example.com/g/r/-/tree/fix/it", None),
        ("https://gitlab.example.com:8443/g/r", "https://gitlab.example.com:8443/g/r/-/tree/fix/it", None),
        (
            "https://bitbucket.org/w/r.git",
            "https://bitbucket.org/w/r/branch/fix/it",
            "https://bitbucket.org/w/r/commits",
        ),
        (
            "https://codeberg.org/u/r.git",
            "https://codeberg.org/u/r/src/branch/fix/it",
            "https://codeberg.org/u/r/commit",
        ),
        ("https://gitea.com/u/r", "https://gitea.com/u/r/src/branch/fix/it", None),
        ("https://forgejo.example.org/u/r", "https://forgejo.example.org/u/r/src/branch/fix/it", None),
    ],
)
def test_a_known_host_has_links(repo_url: str, branch: str, commit: str | None) -> None:
    links = result_links(repo_url, "fix/it", SHA)
    assert links.branch == branch
    assert commit is None or links.commit == f"{commit}/{SHA}"


@pytest.mark.parametrize(
    "repo_url",
    [
        "",
        "https://example.com/u/r.git",
        "https://github.com.evil.example/u/r",
        "https://evilgithub.com/u/r",
        "http://github.com/u/r",
        "javascript://github.com/u/r%0aalert(1)",
        "file:///github.com/u/r",
        "https://github.com/u/../../r",
        "https://github.com/u/..",
        "https://github.com/u/r?x=1",
        "https://github.com/u/r#x",
        "https://github.com/u/r/tree/main",
        "https://github.com/u",
        "https://github.com/u/<b>",
        "https://github.com:port/u/r",
        "https://[::1]/u/r",
        "https://gitlab/u/r",
    ],
)
def test_every_other_url_has_none(repo_url: str) -> None:
    assert result_links(repo_url, "fix", SHA) == ResultLinks()


def test_no_link_has_a_user_or_a_password() -> None:
    links = result_links("https://user:ghp_secret@github.com/u/r.git", "fix", SHA)
    assert links == ResultLinks("https://github.com/u/r/tree/fix", f"https://github.com/u/r/commit/{SHA}")


@pytest.mark.parametrize("branch", ["", "../../evil", "a b", "-x", "a\nb", "/a", "a//b", "\x1b[31m"])
def test_an_invalid_branch_has_no_link(branch: str) -> None:
    links = result_links("https://github.com/u/r", branch, SHA)
    assert (links.branch, bool(links.commit)) == ("", True)


@pytest.mark.parametrize("commit", ["", "1f6f2d68b7", "x" * 40, SHA.upper(), f"{SHA}/../..", SHA + "\n"])
def test_an_invalid_commit_has_no_link(commit: str) -> None:
    assert result_links("https://github.com/u/r", "fix", commit).commit == ""


def test_special_characters_of_a_branch_are_quoted() -> None:
    links = result_links("https://github.com/u/r", 'fix#1&2%"<ü', SHA)
    assert links.branch == "https://github.com/u/r/tree/fix%231%262%25%22%3C%C3%BC"
