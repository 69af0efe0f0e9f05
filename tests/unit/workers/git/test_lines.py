from __future__ import annotations

import tracemalloc

import pytest

from workers.git.lines import ChosenLine, Line, ancestors, choose, find_lines

# S is the start; A and B are one line, and C is another one.
PARENTS = {"A": ["S"], "B": ["A"], "C": ["S"], "M": ["B", "C"]}
ONE, OTHER = Line("B", ("branch b",)), Line("C", ("branch c",))


@pytest.mark.parametrize(
    ("tips", "expected"),
    [
        ([], []),
        (["S"], []),
        (["A", "B"], ["B"]),
        (["A", "B", "C"], ["B", "C"]),
        (["A", "B", "C", "M"], ["M"]),
    ],
)
def test_a_line_ends_at_a_tip_that_no_other_contains(tips: list[str], expected: list[str]) -> None:
    assert [line.sha for line in find_lines({tip: [tip] for tip in tips}, PARENTS)] == expected


@pytest.mark.parametrize(
    ("lines", "head", "branch", "expected"),
    [
        pytest.param([], "S", "S", ChosenLine(None, ()), id="nothing"),
        pytest.param([ONE], "B", "S", ChosenLine("B", ()), id="checked out"),
        pytest.param([ONE], "S", "B", ChosenLine("B", ()), id="the job's branch"),
        pytest.param([ONE], "A", "B", ChosenLine("B", ()), id="the branch is ahead"),
        pytest.param([ONE], "S", "S", ChosenLine("B", ()), id="the only other line"),
        pytest.param([ONE, OTHER], "S", "S", ChosenLine(None, (ONE, OTHER)), id="two other lines"),
        pytest.param([ONE, OTHER], "C", "S", ChosenLine("C", (ONE,)), id="checked out, and another"),
        pytest.param([ONE, OTHER], "C", "B", ChosenLine("C", (ONE,)), id="checked out comes before the branch"),
    ],
)
def test_the_choice(lines: list[Line], head: str, branch: str, expected: ChosenLine) -> None:
    assert choose(lines, PARENTS, head, branch, ["B", "C"]) == expected


def test_a_line_that_does_not_continue_the_start_is_left() -> None:
    assert choose([ONE], PARENTS, "S", "S", []) == ChosenLine(None, (ONE,))


def test_a_cycle_of_parents_ends() -> None:
    assert ancestors(["A"], {"A": ["B"], "B": ["A"]}) == {"A", "B"}


def test_many_tips_of_a_long_history_need_little_memory() -> None:
    parents = {str(number): [str(number - 1)] for number in range(1, 20_001)}
    tips = {str(number): ["a branch"] for number in range(19_501, 20_001)}
    tracemalloc.start()
    lines = find_lines(tips, parents)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [line.sha for line in lines] == ["20000"]
    assert most < 20_000_000
