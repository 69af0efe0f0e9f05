"""Autoscaling rules: data classes and a reader that reports every mistake; pure.

    {"scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "5m"},
     "scale_down": {"condition": "shard_idle > 30m AND shard_count > min_shards", "cooldown": "15m"},
     "limits": {"min_shards": 2, "max_shards": 20, "max_shards_per_type": 5},
     "minimums": [{"days": ["mon", "tue"], "from": "08:00", "to": "18:00", "min_shards": 6}],
     "wait_target": "1m", "warm_spares": 1}

The first three are required. ``minimums`` raise ``min_shards`` at times of the day in UTC; one whose end is before its
start continues past midnight. With a ``wait_target``, a pool grows as soon as its 95th percentile of waits is longer,
independently of ``scale_up``. ``warm_spares`` is the number of shards that are kept idle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any, Final

from myctobot.errors import InvalidRequest
from shards.autoscaling.expressions import Condition, ConditionError, read_condition, read_duration

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_SHARDS: Final = 10_000
_MAX_MINIMUMS: Final = 50
_PARTS: Final = {"scale_up", "scale_down", "limits", "minimums", "wait_target", "warm_spares"}
_RULE: Final = {"condition", "cooldown"}
_LIMITS: Final = {"min_shards", "max_shards", "max_shards_per_type"}
_MINIMUM: Final = {"days", "from", "to", "min_shards"}
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Rule:
    """Condition for a change of the number of shards, and the wait after a change, in seconds."""

    condition: Condition
    cooldown_s: float


@dataclass(frozen=True)
class PoolLimits:
    """Limits on the number of shards, including those that are being built."""

    min_shards: int
    max_shards: int
    max_shards_per_type: int


@dataclass(frozen=True)
class Minimum:
    """Minimum number of shards at a time of the day.

    Attributes:
        days: days on which it starts; 0 is Monday.
        start, end: UTC; the end is exclusive.
    """

    days: frozenset[int]
    start: time
    end: time
    min_shards: int

    def describe(self) -> str:
        """Return the minimum as a short text."""
        days = "every day" if len(self.days) == len(DAYS) else ", ".join(DAYS[day] for day in sorted(self.days))
        return f"{self.min_shards} from {self.start:%H:%M} to {self.end:%H:%M} UTC, {days}"

    def holds(self, now: datetime) -> bool:
        """Tell whether the minimum applies now.

        Args:
            now: UTC.
        """
        clock, day = now.time(), now.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= clock < self.end
        # After midnight, the day on which it started counts.
        started_today = day in self.days and clock >= self.start
        return started_today or ((day - 1) % 7 in self.days and clock < self.end)


@dataclass(frozen=True)
class RuleSet:
    """Rules of one pool."""

    scale_up: Rule
    scale_down: Rule
    limits: PoolLimits
    minimums: tuple[Minimum, ...] = ()
    wait_target_s: float | None = None
    warm_spares: int = 0

    def minimum_at(self, now: datetime) -> int:
        """Return the minimum number of shards at a time, at most ``max_shards``."""
        raised = [minimum.min_shards for minimum in self.minimums if minimum.holds(now)]
        return min(self.limits.max_shards, max([self.limits.min_shards, *raised]))


def read_rules(data: Any) -> RuleSet:
    """Read a rule set.

    Args:
        data: parsed JSON.

    Raises:
        InvalidRequest: lists every mistake by field. For a condition, it marks the invalid word.
    """
    reader = _RulesReader()
    rules = reader.rules(data)
    if reader.problems or rules is None:
        raise InvalidRequest(fields=reader.problems)
    return rules


class _RulesReader:
    """Reader that continues after a mistake, so that it reports all of them."""

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = {}

    def rules(self, data: Any) -> RuleSet | None:
        parts = self._object("rules", data, _PARTS)
        up, down = self._rule("scale_up", parts), self._rule("scale_down", parts)
        limits = self._limits(parts)
        minimums = self._minimums(parts.get("minimums", []))
        target = self._duration("wait_target", parts["wait_target"]) if "wait_target" in parts else None
        spares = self._integer("warm_spares", parts.get("warm_spares", 0), 0)
        if up is None or down is None or limits is None or spares is None:
            return None
        if "shard_idle" not in down.condition.measures:
            self._add_error("scale_down.condition", "Must use shard_idle, because only idle shards are removed.")
        if spares >= limits.max_shards:
            self._add_error("warm_spares", f"Must be less than limits.max_shards, which is {limits.max_shards}.")
        return RuleSet(up, down, limits, minimums, target, spares)

    def _rule(self, name: str, parts: Mapping[str, Any]) -> Rule | None:
        fields = self._object(name, parts.get(name), _RULE, needed=_RULE)
        if not fields:
            return None
        condition = self._condition(f"{name}.condition", fields.get("condition"))
        cooldown = self._duration(f"{name}.cooldown", fields.get("cooldown"))
        return Rule(condition, cooldown) if condition is not None and cooldown is not None else None

    def _limits(self, parts: Mapping[str, Any]) -> PoolLimits | None:
        fields = self._object("limits", parts.get("limits"), _LIMITS, needed=_LIMITS)
        if not fields.keys() >= _LIMITS:
            return None
        minimum = self._integer("limits.min_shards", fields["min_shards"], 0)
        maximum, per_type = (
            self._integer(f"limits.{name}", fields[name], 1) for name in ("max_shards", "max_shards_per_type")
        )
        if minimum is None or maximum is None or per_type is None:
            return None
        found = PoolLimits(minimum, maximum, per_type)
        if found.min_shards > found.max_shards:
            self._add_error("limits.min_shards", f"Must be at most limits.max_shards, which is {found.max_shards}.")
        return found

    def _minimums(self, data: Any) -> tuple[Minimum, ...]:
        if not isinstance(data, list) or len(data) > _MAX_MINIMUMS:
            self._add_error("minimums", f"Must be a list of at most {_MAX_MINIMUMS}.")
            return ()
        found = [self._minimum(f"minimums[{index}]", item) for index, item in enumerate(data)]
        return tuple(minimum for minimum in found if minimum is not None)

    def _minimum(self, name: str, data: Any) -> Minimum | None:
        fields = self._object(name, data, _MINIMUM, needed=_MINIMUM - {"days"})
        days = fields.get("days", list(DAYS))
        if not isinstance(days, list) or not days or not all(day in DAYS for day in days):
            self._add_error(f"{name}.days", f"Must be a list of one or more of: {', '.join(DAYS)}.")
            days = []
        start, end = (self._clock(f"{name}.{key}", fields.get(key)) for key in ("from", "to"))
        shards = self._integer(f"{name}.min_shards", fields.get("min_shards"), 0)
        if start is None or end is None or shards is None:
            return None
        if start == end:
            self._add_error(f"{name}.to", "Must differ from 'from'.")
        return Minimum(frozenset(DAYS.index(day) for day in days), start, end, shards)

    def _object(self, name: str, data: Any, known: set[str], needed: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]  # never written to
        if not isinstance(data, dict):
            self._add_error(name, f"Must be an object with: {', '.join(sorted(known))}.")
            return {}
        for key in sorted(map(str, set(data) - known)):
            self._add_error(
                key if name == "rules" else f"{name}.{key}", f"Is unknown. Known fields: {', '.join(sorted(known))}."
            )
        found = {key: value for key, value in data.items() if key in known and value is not None}
        for key in sorted(needed - set(found)):
            self._add_error(f"{name}.{key}", "Is missing.")
        return found

    def _condition(self, name: str, value: Any) -> Condition | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self._add_error(name, "Must be text, such as: avg_queue_wait > 30s AND all_shards_at_capacity")
            return None
        try:
            return read_condition(value)
        except ConditionError as error:
            self._add_error(name, f"{error}\n{error.marked_text()}")
            return None

    def _duration(self, name: str, value: Any) -> float | None:
        if value is None:
            return None
        try:
            return read_duration(value if isinstance(value, str) else "")
        except ConditionError as error:
            self._add_error(name, str(error))
            return None

    def _integer(self, name: str, value: Any, minimum: int) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value <= MAX_SHARDS:
            return value
        # A missing field was reported before.
        if value is not None:
            self._add_error(name, f"Must be a whole number from {minimum} to {MAX_SHARDS}.")
        return None

    def _clock(self, name: str, value: Any) -> time | None:
        if isinstance(value, str) and (match := _CLOCK.fullmatch(value)):
            return time(int(match[1]), int(match[2]))
        if value is not None:
            self._add_error(name, "Must be a time of the day such as 08:00.")
        return None

    def _add_error(self, name: str, problem: str) -> None:
        self.problems.setdefault(name, []).append(problem)
