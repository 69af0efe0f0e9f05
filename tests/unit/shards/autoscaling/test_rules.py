"""Autoscaling rules: valid rules are read, and every mistake is named with its field."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from myctobot.errors import InvalidRequest
from shards.autoscaling.rules import PoolLimits, read_rules

RULES: dict[str, Any] = {
    "scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "5m"},
    "scale_down": {"condition": "shard_idle > 30m AND shard_count > min_shards", "cooldown": "15m"},
    "limits": {"min_shards": 2, "max_shards": 20, "max_shards_per_type": 5},
}
MONDAY = 23


def changed(path: str, value: Any) -> dict[str, Any]:
    """Return the rules with a changed value at a path such as ``limits.min_shards``; None removes it."""
    rules = copy.deepcopy(RULES)
    *parts, last = path.split(".")
    inner = rules
    for part in parts:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return rules


def problems(data: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidRequest) as caught:
        read_rules(data)
    return caught.value.fields


def test_the_rules_of_the_manual() -> None:
    rules = read_rules(RULES)
    assert rules.scale_up.cooldown_s == 300
    assert rules.scale_down.cooldown_s == 900
    assert rules.scale_down.condition.measures == {"shard_idle", "shard_count", "min_shards"}
    assert rules.limits == PoolLimits(2, 20, 5)
    assert (rules.minimums, rules.wait_target_s, rules.warm_spares) == ((), None, 0)


@pytest.mark.parametrize(
    ("path", "value", "field", "says"),
    [
        ("scale_up", None, "scale_up", "object"),
        ("scale_up", [], "scale_up", "object"),
        ("scale_up.condition", None, "scale_up.condition", "missing"),
        ("scale_up.condition", 5, "scale_up.condition", "text"),
        ("scale_up.cooldown", None, "scale_up.cooldown", "missing"),
        ("scale_up.cooldown", 300, "scale_up.cooldown", "duration"),
        ("scale_up.cooldown", "soon", "scale_up.cooldown", "duration"),
        ("scale_up.colour", 1, "scale_up.colour", "Is unknown"),
        ("scale_down.condition", "free_slots > 3", "scale_down.condition", "shard_idle"),
        ("limits.max_shards", None, "limits.max_shards", "missing"),
        ("limits.max_shards", 0, "limits.max_shards", "from 1"),
        ("limits.max_shards", True, "limits.max_shards", "whole number"),
        ("limits.max_shards", 2.0, "limits.max_shards", "whole number"),
        ("limits.min_shards", 21, "limits.min_shards", "at most limits.max_shards"),
        ("limits.min_shards", -1, "limits.min_shards", "from 0"),
        ("budget", 5, "budget", "Is unknown"),
        ("warm_spares", 20, "warm_spares", "less than"),
        ("wait_target", "1", "wait_target", "duration"),
        ("minimums", {}, "minimums", "list"),
        ("minimums", [{"from": "8:00", "to": "18:00", "min_shards": 3}], "minimums[0].from", "08:00"),
        ("minimums", [{"from": "08:00", "to": "24:00", "min_shards": 3}], "minimums[0].to", "08:00"),
        ("minimums", [{"from": "08:00", "to": "08:00", "min_shards": 3}], "minimums[0].to", "Must differ"),
        ("minimums", [{"from": "08:00", "to": "09:00", "min_shards": 3, "days": ["noon"]}], "minimums[0].days", "mon"),
        ("minimums", [{"from": "08:00", "to": "09:00", "min_shards": 3, "days": [["mon"]]}], "minimums[0].days", "mon"),
        ("minimums", [{"from": "08:00", "to": "09:00"}], "minimums[0].min_shards", "missing"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(path: str, value: Any, field: str, says: str) -> None:
    found = problems(changed(path, value))
    assert list(found)[:1] == [field]
    assert says in found[field][0]


def test_null_is_as_good_as_nothing() -> None:
    assert read_rules({**RULES, "minimums": None, "wait_target": None, "warm_spares": None}) == read_rules(RULES)
    nulls = {part: dict.fromkeys(fields) for part, fields in RULES.items()}
    assert set(problems(nulls)) == {f"{part}.{field}" for part, fields in RULES.items() for field in fields}


@pytest.mark.parametrize("data", [None, [], "rules", 5])
def test_an_invalid_rule_set_is_refused(data: Any) -> None:
    assert "Must be an object" in problems(data)["rules"][0]


def test_all_mistakes_are_reported_and_the_invalid_word_is_marked() -> None:
    rules = changed("scale_up.condition", "avg_wait > 30s")
    rules["limits"]["max_shards"] = "many"
    found = problems(rules)
    assert set(found) == {"scale_up.condition", "limits.max_shards"}
    assert found["scale_up.condition"][0].endswith("\navg_wait > 30s\n^^^^^^^^")


@pytest.mark.parametrize(
    ("day", "clock", "least"),
    [
        (MONDAY, "07:59", 2), (MONDAY, "08:00", 6), (MONDAY, "17:59", 6), (MONDAY, "18:00", 2),
        # The minimum lasts from Monday evening to Tuesday morning, and does not start on Tuesday.
        (MONDAY, "23:00", 4), (MONDAY + 1, "01:59", 4), (MONDAY + 1, "02:00", 2), (MONDAY + 1, "23:00", 2),
        (MONDAY, "01:00", 2), (MONDAY + 5, "12:00", 20),
    ],
)  # fmt: skip
def test_minimums_at_times_of_the_day(day: int, clock: str, least: int) -> None:
    minimums = [
        {"days": ["mon", "tue"], "from": "08:00", "to": "18:00", "min_shards": 6},
        {"days": ["mon"], "from": "22:00", "to": "02:00", "min_shards": 4},
        # The minimum exceeds the maximum.
        {"days": ["sat"], "from": "00:00", "to": "23:59", "min_shards": 50},
    ]
    hour, minute = map(int, clock.split(":"))
    rules = read_rules({**RULES, "minimums": minimums})
    assert rules.minimum_at(datetime(2026, 11, day, hour, minute, tzinfo=UTC)) == least
