from __future__ import annotations

from workers.git.work_trees import WorkTree, parse_trees

FOLDERS = ["/workspace", "/home/agent", ""]


def text(*trees: tuple[str, str, str]) -> str:
    return "".join(f"{field}\0" for row in (FOLDERS, *trees) for field in row)


def test_each_place_of_a_work_tree_is_recognised() -> None:
    found = parse_trees(
        text(
            ("a", "/workspace/a", "+"),
            ("b", "/workspace/.git/worktrees/b/../../../../home/agent/b", ""),
            ("c", "/tmp/c\n2", ""),
            ("d", "/workspace2/d", "+"),
        )
    )
    assert found == [
        WorkTree("a", "/workspace/a", is_there=True, is_inside=True, lasts=True),
        WorkTree("b", "/home/agent/b", is_there=False, is_inside=False, lasts=True),
        WorkTree("c", "/tmp/c\n2", is_there=False, is_inside=False, lasts=False),
        WorkTree("d", "/workspace2/d", is_there=True, is_inside=False, lasts=False),
    ]


def test_an_output_that_was_cut_is_read_as_far_as_it_is_complete() -> None:
    assert parse_trees("") == []
    assert parse_trees("/workspace\0/home/agent\0\0/cut") == []
    assert len(parse_trees(text(("a", "/tmp/a", ""), ("b", "/tmp/b", "+")) + "c\0/tm")) == 2
