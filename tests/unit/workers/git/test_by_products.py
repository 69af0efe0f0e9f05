from __future__ import annotations

import pytest

from workers.git.by_products import described, find_by_products
from workers.git.large_changes import LARGE_FILE, MANY_FILES, NewFile, describe_large


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["web/node_modules/a/index.js", "web/node_modules/b.js", "web/app.js"], {"web/node_modules/": 2}),
        (["env/pyvenv.cfg", "env/bin/python", "env/lib/a/b.py"], {"env/": 3}),
        (["target/CACHEDIR.TAG", "target/debug/app", "src/main.rs"], {"target/": 2}),
        (["src/__pycache__/a.pyc", "src/old.pyc"], {"src/__pycache__/": 1, "src/old.pyc": 1}),
        (["a/.DS_Store", "Thumbs.db"], {"a/.DS_Store": 1, "Thumbs.db": 1}),
        # A mark at the top, names that only look alike, and files in place of folders.
        (["CACHEDIR.TAG", "a.txt"], {}),
        (["my_node_modules/a", "node_modules", "venv/notes.md", "docs/core.1", "env.py"], {}),
        ([], {}),
    ],
)  # fmt: skip
def test_what_tools_make_again_is_found(paths: list[str], expected: dict[str, int]) -> None:
    assert find_by_products(paths) == expected


def test_only_a_large_file_is_a_memory_dump() -> None:
    assert find_by_products(["core.1", "man/core.1"], ["core.1"]) == {"core.1": 1}


def test_a_folder_is_described_with_its_number_of_files() -> None:
    assert described({"core.1": 1, ".venv/": 1492}) == [".venv/ (1,492 files)", "core.1"]


def test_large_files_and_new_folders_of_many_are_described() -> None:
    many = [NewFile(f"new/deep/{number}", 1, True) for number in range(MANY_FILES)]
    known = [NewFile(f"old/{number}", 1, True) for number in range(MANY_FILES)]
    large = NewFile("old/large.bin", LARGE_FILE, False)
    assert describe_large([*many, *known, large], ["old"]) == ["old/large.bin (10 MB)", "new/ (1,000 files)"]
    assert describe_large([*many[1:], *known], ["old"]) == []
