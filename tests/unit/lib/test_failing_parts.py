"""Report of processes that do not start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from myctobot.lib.failing_parts import FailingPart, FailingParts, read_report, report_path, report_text

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    parts = (FailingPart("beat", NOW, 7), FailingPart("web", NOW, 3, NOW + timedelta(seconds=9)))
    (tmp_path / "report").write_text(report_text(parts))
    assert read_report(tmp_path / "report") == parts


@pytest.mark.parametrize("text", [None, "", "{", "3", "[3]", '[{"name": "x"}]', '[{"name":"x","since":"y"}]', "\udcff"])
def test_a_damaged_report_names_no_part(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "report").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_report(tmp_path / "report") == ()
    assert read_report(report_path(tmp_path)) == ()


def test_an_outage_begins_with_its_first_failed_start_and_is_kept_for_an_hour() -> None:
    parts = FailingParts()
    parts.count("beat", 1, NOW)
    parts.count("beat", 2, NOW + timedelta(seconds=1))
    assert parts.all(NOW) == [FailingPart("beat", NOW, 2)]
    ended = NOW + timedelta(seconds=5)
    assert parts.end("beat", ended)
    assert not parts.end("beat", ended)
    assert parts.all(ended) == [FailingPart("beat", NOW, 2, ended)]
    assert parts.all(ended + timedelta(hours=2)) == []
