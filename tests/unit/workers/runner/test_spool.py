from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myctobot.contract.jobs import Event
from myctobot.contract.limits import MAX_BATCH_BYTES, MAX_BATCH_EVENTS
from workers.runner.spool import Spool

Make = Callable[..., Spool]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Return a function that creates spools, which are closed after the test."""
    made: list[Spool] = []

    def one(folder: Path = tmp_path, **bounds: int) -> Spool:
        made.append(Spool(folder, **bounds))
        return made[-1]

    yield one
    for spool in made:
        spool.close()


def event(seq: int, text: str = "") -> Event:
    return Event(seq=seq, at="2030-01-01T00:00:00+00:00", kind="log.line", data={"text": text})


def numbers(events: list[Event]) -> list[int]:
    return [each["seq"] for each in events]


def drained(spool: Spool) -> list[int]:
    """Return the numbers of all events, read in batches."""
    found: list[int] = []
    while batch := spool.batch():
        found += numbers(batch)
        spool.drop(len(batch))
    return found


@given(st.lists(st.one_of(st.integers(1, 400), st.none()), max_size=80))
def test_order_is_kept_across_memory_and_disk(steps: list[int | None]) -> None:
    """Append an event for each number, which is its size, and drop a batch for each None."""
    added, posted = 0, list[int]()
    with closing(Spool(Path("/tmp"), memory_bytes=500, max_bytes=10**6)) as spool:
        for size in steps:
            if size is None:
                batch = spool.batch()
                posted += numbers(batch)
                spool.drop(len(batch))
            else:
                added += 1
                spool.append(event(added, "x" * size), size)
        posted += drained(spool)
        assert posted == list(range(1, added + 1))
        assert (len(spool), spool.bytes) == (0, 0)


def test_memory_is_bounded_and_the_rest_is_on_disk(make: Make, tmp_path: Path) -> None:
    spool = make(memory_bytes=1000, max_bytes=50_000)
    for seq in range(1, 201):
        spool.append(event(seq, "x" * 100), 100)
    assert len(spool._in_memory) == 10
    assert spool.bytes == 20_000
    # The file has no name, so no other process can open it and it ends with this one.
    assert list(tmp_path.iterdir()) == []
    assert drained(spool) == list(range(1, 201))


def test_it_is_full_at_its_limit_and_not_before(make: Make) -> None:
    spool = make(memory_bytes=1000, max_bytes=5000)
    full = []
    for seq in range(1, 52):
        spool.append(event(seq), 100)
        full.append(spool.is_full)
    assert full == [False] * 50 + [True]
    spool.drop(len(spool.batch()))
    full.append(spool.is_full)
    assert full[-1] is False


def test_a_batch_stays_until_it_is_dropped(make: Make) -> None:
    spool = make(memory_bytes=300)
    for seq in (1, 2, 3, 4, 5):
        spool.append(event(seq), 100)
    assert numbers(spool.batch()) == [1, 2, 3]
    assert numbers(spool.batch()) == [1, 2, 3]
    spool.drop(1)
    assert numbers(spool.batch()) == [2, 3, 4]


def test_batches_keep_the_contracts_limits(make: Make) -> None:
    spool = make()
    for seq in range(1, MAX_BATCH_EVENTS + 2):
        spool.append(event(seq), 1)
    assert len(spool.batch()) == MAX_BATCH_EVENTS
    spool.drop(MAX_BATCH_EVENTS + 1)
    for seq in (1, 2):
        spool.append(event(seq), MAX_BATCH_BYTES)
    assert len(spool.batch()) == 1


def test_an_event_that_is_larger_than_memory_is_accepted(make: Make) -> None:
    spool = make(memory_bytes=100)
    for seq in (1, 2, 3):
        spool.append(event(seq, "x" * 1000), 1000)
    assert drained(spool) == [1, 2, 3]


class FullDisk:
    """File whose writes fail halfway while the disk is full."""

    def __init__(self, file: Any) -> None:
        self.file, self.is_full = file, False

    def write(self, data: bytes) -> int:
        if self.is_full:
            self.file.write(data[:5])
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def test_a_full_disk_loses_no_event_and_makes_the_spool_full_at_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make(memory_bytes=300, max_bytes=10_000)
    for seq in range(1, 7):
        spool.append(event(seq), 100)
    disk = FullDisk(spool._file)
    monkeypatch.setattr(spool, "_file", disk)
    disk.is_full = True
    spool.append(event(7), 100)
    full = [spool.is_full]
    disk.is_full = False
    spool.append(event(8), 100)
    # Drop batches until the overflow is in memory. Events on disk come before it.
    full.append(spool.is_full)
    assert len(spool._in_memory) == 3
    for _ in range(2):
        spool.drop(len(spool.batch()))
    full.append(spool.is_full)
    assert full == [True, True, False]
    assert drained(spool) == [7, 8]


def test_a_missing_folder_counts_as_a_full_disk(make: Make, tmp_path: Path) -> None:
    spool = make(tmp_path / "gone", memory_bytes=300)
    for seq in range(1, 7):
        spool.append(event(seq), 100)
    assert spool.is_full
    assert drained(spool) == list(range(1, 7))
