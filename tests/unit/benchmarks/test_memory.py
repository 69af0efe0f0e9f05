"""Memory of a process as the kernel reports it."""

from __future__ import annotations

import os

import pytest

from tests.benchmarks.memory import Memory, field_mb, memory_of, total

STATUS = "Name:\tpython\nVmHWM:\t   64252 kB\nVmRSS:\t   51200 kB\nRssAnon:\t   50680 kB\n"


@pytest.mark.parametrize(("name", "mb"), [("VmRSS", 50.0), ("VmHWM", 62.7)])
def test_field_mb_reads_the_named_figure(name: str, mb: float) -> None:
    assert field_mb(STATUS, name) == mb


def test_field_mb_refuses_an_ended_process() -> None:
    with pytest.raises(ValueError, match="VmRSS"):
        field_mb("Name:\tpython\nState:\tZ (zombie)\n", "VmRSS")


def test_memory_of_measures_this_process() -> None:
    found = memory_of(os.getpid())
    assert 0 < found.rss <= found.peak
    assert found.pss is not None
    assert found.pss <= found.rss + 1


@pytest.mark.parametrize(("second", "pss"), [(Memory(5, 6, 3), 4), (Memory(5, 6, None), None)])
def test_a_total_has_pss_only_if_all_parts_have_it(second: Memory, pss: float | None) -> None:
    assert total([Memory(2, 2, 1), second]) == Memory(7, 8, pss)
