"""``manage.py autoscale`` with rules and jobs from files."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

RULES: dict[str, Any] = {
    "scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "5m"},
    "scale_down": {"condition": "shard_idle > 30m AND shard_count > min_shards", "cooldown": "15m"},
    "limits": {"min_shards": 2, "max_shards": 20, "max_shards_per_type": 5},
    "minimums": [{"days": ["mon"], "from": "08:00", "to": "18:00", "min_shards": 6}],
    "wait_target": "1m",
    "warm_spares": 1,
}


def check(path: Path, *options: str) -> str:
    out = StringIO()
    call_command("autoscale", "check", str(path), *options, stdout=out)
    return out.getvalue()


def stored(folder: Path, text: str) -> Path:
    path = folder / "rules.json"
    path.write_text(text)
    return path


def test_rules_are_described(tmp_path: Path) -> None:
    path = stored(tmp_path, json.dumps(RULES))
    output = check(path)
    assert "grow when    avg_queue_wait > 30s AND all_shards_at_capacity\n" in output
    assert "2 to 20, at most 5 of a type" in output
    assert "6 from 08:00 to 18:00 UTC, mon\n" in output
    assert "longer than 60 s" in output
    assert json.loads(check(path, "--json")) == {"ok": True, "fields": {}}


def test_an_error_is_shown_with_its_position(tmp_path: Path) -> None:
    rules = {**RULES, "scale_up": {"condition": "avg_wait > 30s", "cooldown": "5m"}, "limits": {}}
    path = stored(tmp_path, json.dumps(rules))
    with pytest.raises(CommandError) as caught:
        check(path)
    assert "scale_up.condition: There is no measure 'avg_wait'." in str(caught.value)
    assert "\navg_wait > 30s\n^^^^^^^^\n" in str(caught.value)
    assert "limits.max_shards: Is missing." in str(caught.value)
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("autoscale", "check", str(path), "--json", stdout=out)
    output = json.loads(out.getvalue())
    assert not output["ok"]
    assert set(output["fields"]) >= {"scale_up.condition", "limits.min_shards"}


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "is not valid JSON"), ("[" * 100_000, "is not valid JSON"), (" " * 300_000, "more than")],
)
def test_an_invalid_rule_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CommandError, match=says):
        check(stored(tmp_path, text))


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        check(tmp_path / "none.json")


class TestSimulate:
    JOBS = "at,length_s\n" + "".join(f"2026-11-26T00:0{minute}:00Z,600\n" for minute in range(6) for _ in range(3))

    def simulate(self, tmp_path: Path, jobs: str, *options: str) -> str:
        (tmp_path / "jobs.csv").write_text(jobs)
        out = StringIO()
        rules = stored(tmp_path, json.dumps({**RULES, "minimums": [], "warm_spares": 0}))
        call_command("autoscale", "simulate", str(rules), str(tmp_path / "jobs.csv"), *options, stdout=out)
        return out.getvalue()

    def test_the_report_has_figures_and_a_chart(self, tmp_path: Path) -> None:
        output = self.simulate(tmp_path, self.JOBS)
        assert "jobs         18\n" in output
        assert "shards max   5\n" in output
        rows = [line for line in output.splitlines() if line.startswith(("shards   ", "running  ", "waiting  "))]
        assert [row.rsplit(" ", 1)[1] for row in rows] == ["5", "5", "15"]
        assert "Thu 00:00" in output

    def test_the_report_is_available_as_json(self, tmp_path: Path) -> None:
        found = json.loads(self.simulate(tmp_path, self.JOBS, "--json", "--slots", "9", "--build", "5"))
        assert (found["jobs"], found["wait_max_s"], found["built"], found["flaps"]) == (18, 0, 0, 0)
        slow = json.loads(self.simulate(tmp_path, self.JOBS, "--json"))
        assert slow["wait_p95_s"] > 0
        assert sum(change["shards"] for change in slow["changes"]) == slow["built"] - slow["released"]
        assert all(change["reason"] for change in slow["changes"])

    @pytest.mark.parametrize(
        ("jobs", "says"),
        [
            ("", "line 0, at|line 1, at"),
            ("at,length_s\n", "1 to 200000"),
            ("when,length_s\n2026-11-26,5\n", "line 1, at: The first line must be"),
            ("at,length_s\nyesterday,5\n", "line 2, at: Must be a time"),
            ("at,length_s\n2026-11-26T00:00:00Z,long\n", "line 2, length_s"),
            ("at,length_s\n2026-11-26T00:00:00Z,nan\n", "line 2, length_s"),
            ("at,length_s\n2026-11-26T00:00:00Z\n", "line 2, length_s"),
            ("at,length_s\n2024-01-01,5\n2026-01-01,5\n", "within one year"),
            ('at,length_s\n"2026-11-26,5\n', "not valid CSV"),
        ],
    )
    def test_invalid_jobs_are_reported(self, tmp_path: Path, jobs: str, says: str) -> None:
        with pytest.raises(CommandError, match=says):
            self.simulate(tmp_path, jobs)

    @pytest.mark.parametrize("value", ["0", "-1", "many", "1000000"])
    def test_invalid_options_are_reported(self, tmp_path: Path, value: str) -> None:
        with pytest.raises(CommandError, match="slots"):
            self.simulate(tmp_path, self.JOBS, f"--slots={value}")
