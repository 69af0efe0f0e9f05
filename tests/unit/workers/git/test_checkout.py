from __future__ import annotations

import pytest

from workers.git.checkout import find_unfinished, undo_command


@pytest.mark.parametrize(
    ("states", "unmerged", "expected"),
    [
        ([], False, None),
        ([], True, None),
        (["MERGE_HEAD"], True, ["merge", "--abort"]),
        (["MERGE_HEAD"], False, None),
        (["CHERRY_PICK_HEAD"], True, ["cherry-pick", "--abort"]),
        (["REVERT_HEAD"], True, ["revert", "--abort"]),
        (["rebase-merge"], False, ["rebase", "--abort"]),
        (["rebase-merge", "CHERRY_PICK_HEAD"], True, ["rebase", "--abort"]),
        (["rebase-apply"], False, ["rebase", "--abort"]),
        (["rebase-apply/applying", "rebase-apply"], False, ["am", "--abort"]),
        (["BISECT_LOG"], False, ["bisect", "reset"]),
        (["what else the agent prints"], False, None),
    ],
)
def test_what_is_unfinished_is_undone_or_committed(
    states: list[str], unmerged: bool, expected: list[str] | None
) -> None:
    assert undo_command(states, unmerged) == expected


@pytest.mark.parametrize(
    ("lines", "unmerged", "codes"),
    [
        ([], False, []),
        ([], True, ["git_conflicts"]),
        (["CHERRY_PICK_HEAD", "todo 2"], False, ["git_operation_unfinished"]),
        (["todo 1"], False, []),
        (["todo many"], False, []),
        (["MERGE_HEAD"], True, []),
    ],
)
def test_a_part_that_is_kept_has_a_warning(lines: list[str], unmerged: bool, codes: list[str]) -> None:
    assert [code for code, _ in find_unfinished(lines, unmerged).warnings] == codes
