from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.fixtures.git_objects import commit_content, tree_content, write_nested_trees, write_object
from tests.fixtures.repos import git, make_repository
from workers.errors import JobError
from workers.git.command import Git
from workers.git.trees import Entry, count_paths, parse_tree

OID = "ab" * 20


def count(repository: Path, commit: str, max_files: int = 1000) -> int:
    return asyncio.run(count_paths(Git(home=repository), repository, commit, max_files))


def test_a_tree_is_parsed_with_any_bytes_in_names_and_objects() -> None:
    data = tree_content([("100644", "a b\n", "0a00" * 10), ("040000", "old", OID), ("160000", "other", OID)])
    first, second, third = parse_tree(data)
    assert first == Entry(b"100644", b"a b\n", bytes.fromhex("0a00" * 10))
    assert (first.is_tree, second.is_tree, third.is_tree) == (False, True, False)


def test_a_tree_with_sha256_names_is_parsed() -> None:
    data = b"100644 a\0" + bytes(range(32)) + b"40000 b\0" + b"\0" * 32
    assert parse_tree(data, 32) == [Entry(b"100644", b"a", bytes(range(32))), Entry(b"40000", b"b", b"\0" * 32)]


def test_files_and_folders_are_counted(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repo", {"a": "1", "b/c": "1", "b/d/e": "1", "f/d/e": "1"})
    assert count(repository, git(repository, "rev-parse", "HEAD")) == 8


def test_a_tree_counts_as_often_as_it_occurs(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", ".")
    commit = write_object(tmp_path, "commit", commit_content(write_nested_trees(tmp_path, depth=3, width=4)))
    assert count(tmp_path, commit) == 4 + 16 + 64
    assert count(tmp_path, commit, max_files=84) == 84
    with pytest.raises(JobError, match="more than 83 files and folders"):
        count(tmp_path, commit, max_files=83)


def test_a_missing_object_is_an_error_and_not_an_empty_folder(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet", "--bare", ".")
    tree = write_object(tmp_path, "tree", tree_content([("40000", "gone", OID)]))
    with pytest.raises(JobError) as caught:
        count(tmp_path, write_object(tmp_path, "commit", commit_content(tree)))
    assert (caught.value.code, caught.value.retryable) == ("git_failed", True)


def test_what_is_no_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JobError) as caught:
        count(tmp_path, OID)
    assert caught.value.code == "git_failed"
