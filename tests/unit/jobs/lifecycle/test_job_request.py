"""Concurrency keys of branches."""

from __future__ import annotations

import pytest

from jobs.lifecycle.job_request import MAX_KEY_LENGTH, key_of_branch


def key(url: str, branch: str = "feature/x") -> str:
    return key_of_branch({"repo_url": url, "branch": branch})


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/user/r.git",
        "https://git.example/user/r.git/",
        "https://git.example/user/r",
        "https://GIT.example./User/R.git",
        "https://git.example:443//user/./r.git",
        "https://git.example:8443/user/%72.git",
        "ssh://git@git.example:2222/user/r.git",
    ],
)
def test_all_spellings_of_a_repository_have_one_key(url: str) -> None:
    assert key(url) == "git.example/user/r feature/x"


@pytest.mark.parametrize("url", ["file:///srv/r.git", "file:///srv/r.git/", "file:///srv/r"])
def test_a_repository_of_this_machine_has_one_key(url: str) -> None:
    assert key(url) == "/srv/r feature/x"


def test_other_repositories_and_branches_have_other_keys() -> None:
    urls = ["https://h/a/b", "https://h/a/c", "https://h/a", "https://i/a/b"]
    assert len({key(url) for url in urls} | {key(urls[0], "feature/X")}) == 5


def test_a_long_url_does_not_hide_the_branch() -> None:
    long = "https://h/" + "x" * 1900
    assert key(long, "a") != key(long, "b")
    assert len(key(long, "a")) <= MAX_KEY_LENGTH


def test_a_task_without_a_repository_has_no_key() -> None:
    assert key_of_branch({"branch": "x"}) == key_of_branch({"repo_url": "https://h/r"}) == ""
