"""Loading of a program's modules without garbage collections."""

from __future__ import annotations

import gc

from myctobot.contract import loading


def test_collections_pause_while_modules_load() -> None:
    assert gc.isenabled()
    loading.begin()
    try:
        assert not gc.isenabled()
    finally:
        loading.finish()
    assert gc.isenabled()


def test_later_collections_leave_out_what_was_loaded() -> None:
    before = gc.get_freeze_count()
    loading.begin()
    loaded = [[number] for number in range(1000)]
    loading.finish()
    assert gc.get_freeze_count() >= before + len(loaded)
