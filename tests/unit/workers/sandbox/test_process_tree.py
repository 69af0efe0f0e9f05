from __future__ import annotations

import pytest

from workers.sandbox.process_tree import ProcessInfo, descendants, parse_stat


def process(pid: int, parent: int) -> ProcessInfo:
    return ProcessInfo(pid, parent, session=1, state="S", memory=0, started=0)


def test_a_process_cannot_fake_its_line_with_its_name() -> None:
    rest = "R 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 1000 3 0"
    info = parse_stat(f"12 (evil) S 1 1 (x) {rest}")
    assert (info.pid, info.state, info.parent, info.session, info.started) == (12, "R", 7, 9, 4711)


def test_only_descendants_are_found_at_any_depth() -> None:
    table = {info.pid: info for info in (process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5))}
    assert descendants(table, [2, 99]) == {2, 3, 4}


def test_a_loop_in_a_torn_snapshot_ends() -> None:
    table = {info.pid: info for info in (process(2, 3), process(3, 2))}
    assert descendants(table, [2]) == {2, 3}


@pytest.mark.parametrize(
    ("state", "threads", "alive"), [("S", 1, True), ("Z", 1, False), ("Z", 2, True), ("X", 1, False)]
)
def test_a_process_lives_as_long_as_one_of_its_threads(state: str, threads: int, alive: bool) -> None:
    info = parse_stat(f"12 (agent) {state} 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 1000 3 0")
    assert (info.threads, info.alive) == (threads, alive)
