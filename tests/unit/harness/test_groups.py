"""Groups of tests that one worker runs together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from myctobot.stack.plan import CHECKOUT
from tests.groups import GROUPS, group_of, position_of, pytest_xdist_make_scheduler

RELOAD = "tests/acceptance/test_reload.py::test_a"


def test_a_file_is_a_group() -> None:
    one, other = group_of("tests/unit/test_x.py::test_a"), group_of("tests/unit/test_x.py::test_b[1]")
    assert one == other == "tests/unit/test_x.py"
    assert group_of("tests/unit/test_y.py::test_a") != one


def test_files_of_one_line_are_a_group() -> None:
    assert group_of(RELOAD) == group_of("tests/acceptance/test_silence.py::test_b")


def test_named_files_come_before_others_in_the_order_of_the_table() -> None:
    places = [position_of(name) for names in GROUPS for name in names]
    assert places == sorted(places)
    assert position_of("tests/unit/test_x.py") == len(GROUPS)


@pytest.mark.parametrize("name", [name for names in GROUPS for name in names])
def test_every_name_exists(name: str) -> None:
    assert (CHECKOUT / name).exists()


class Worker:
    """Worker of pytest-xdist that only records the tests that it receives."""

    gateway = SimpleNamespace(id="worker")
    shutting_down = False

    def __init__(self) -> None:
        self.received: list[int] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.received += indices

    def shutdown(self) -> None:
        self.shutting_down = True


def test_the_shortest_group_waits_behind_a_group_with_one_test() -> None:
    tests = ["long.py::test", *(f"{name}.py::test_{n}" for name in ("second", "third") for n in range(3)), "last.py::a"]
    config: Any = SimpleNamespace(getvalue=lambda _: ["2*popen"], option=SimpleNamespace(loadscopereorder=True))
    scheduler = pytest_xdist_make_scheduler(config, None)
    one, other = Worker(), Worker()
    for worker in (one, other):
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, tests)
    scheduler.schedule()
    assert [tests[index] for index in one.received] == ["long.py::test", "last.py::a"]
    assert [tests[index] for index in other.received] == ["second.py::test_0", "second.py::test_1", "second.py::test_2"]
