"""Autoscaling rules as data: read once, every mistake named; pure.

    {"scale_up": {"condition": "avg_queue_wait > 30s AND all_shards_at_capacity", "cooldown": "5m"},
     "scale_down": {"condition": "shard_idle > 30m AND shard_count > min_shards", "cooldown": "15m"},
     "limits": {"min_shards": 2, "max_shards": 20, "max_shards_per_type": 5},
     "minimums": [{"days": ["mon", "tue"], "from": "08:00", "to": "18:00", "min_shards": 6}],
     "wait_target": "1m", "warm_spares": 1}

The first three must be there. ``minimums`` raise ``min_shards`` at times of the day (UTC; one that ends before it
begins goes on past midnight). With a ``wait_target`` a pool grows as soon as its 95th percentile of waits is longer,
whatever ``scale_up`` says. ``warm_spares`` are shards that stand idle on purpose.
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
MOST_SHARDS: Final = 10_000
_MOST_MINIMUMS: Final = 50
_PARTS: Final = {"scale_up", "scale_down", "limits", "minimums", "wait_target", "warm_spares"}
_RULE: Final = {"condition", "cooldown"}
_LIMITS: Final = {"min_shards", "max_shards", "max_shards_per_type"}
_MINIMUM: Final = {"days", "from", "to", "min_shards"}
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Rule:
    """When to change the number of shards, and how long to wait after a change, in seconds."""

    condition: Condition
    cooldown_s: float


@dataclass(frozen=True)
class Limits:
    """Bounds of the number of shards, those that are being built included."""

    min_shards: int
    max_shards: int
    max_shards_per_type: int


@dataclass(frozen=True)
class Minimum:
    """At least so many shards at some time of the day.

    Attributes:
        days: on which it begins, 0 for Monday.
        start, end: UTC; the end is not part of it.
    """

    days: frozenset[int]
    start: time
    end: time
    min_shards: int

    def shown(self) -> str:
        """In words."""
        days = "every day" if len(self.days) == len(DAYS) else ", ".join(DAYS[day] for day in sorted(self.days))
        return f"{self.min_shards} from {self.start:%H:%M} to {self.end:%H:%M} UTC, {days}"

    def holds(self, now: datetime) -> bool:
        """Whether it is that time.

        Args:
            now: UTC.
        """
        clock, day = now.time(), now.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= clock < self.end
        # Past midnight it is still the day on which it began that counts.
        begun_today = day in self.days and clock >= self.start
        return begun_today or ((day - 1) % 7 in self.days and clock < self.end)


@dataclass(frozen=True)
class RuleSet:
    """The rules of one pool."""

    scale_up: Rule
    scale_down: Rule
    limits: Limits
    minimums: tuple[Minimum, ...] = ()
    wait_target_s: float | None = None
    warm_spares: int = 0

    def least_at(self, now: datetime) -> int:
        """How many shards there are to be at least at a time, which no minimum raises above the most."""
        raised = [minimum.min_shards for minimum in self.minimums if minimum.holds(now)]
        return min(self.limits.max_shards, max([self.limits.min_shards, *raised]))


def read_rules(data: Any) -> RuleSet:
    """Read a rule set.

    Args:
        data: as parsed from JSON.

    Raises:
        InvalidRequest: with every mistake, by field; one in a condition points at the word.
    """
    reader = _Reader()
    rules = reader.rules(data)
    if reader.problems or rules is None:
        raise InvalidRequest(fields=reader.problems)
    return rules


class _Reader:
    """Reads on after a mistake, so that all are told at once."""

    def __init__(self) -> None:
        self.problems: dict[str, list[str]] = {}

    def rules(self, data: Any) -> RuleSet | None:
        parts = self._object("rules", data, _PARTS)
        up, down = self._rule("scale_up", parts), self._rule("scale_down", parts)
        limits = self._limits(parts)
        minimums = self._minimums(parts.get("minimums", []))
        target = self._duration("wait_target", parts["wait_target"]) if "wait_target" in parts else None
        spares = self._whole("warm_spares", parts.get("warm_spares", 0), 0)
        if up is None or down is None or limits is None or spares is None:
            return None
        if "shard_idle" not in down.condition.measures:
            self._wrong("scale_down.condition", "Must look at shard_idle: only a shard that is idle is removed.")
        if spares >= limits.max_shards:
            self._wrong("warm_spares", f"Must be less than limits.max_shards, which is {limits.max_shards}.")
        return RuleSet(up, down, limits, minimums, target, spares)

    def _rule(self, name: str, parts: Mapping[str, Any]) -> Rule | None:
        fields = self._object(name, parts.get(name), _RULE, needed=_RULE)
        if not fields:
            return None
        condition = self._condition(f"{name}.condition", fields.get("condition"))
        cooldown = self._duration(f"{name}.cooldown", fields.get("cooldown"))
        return Rule(condition, cooldown) if condition is not None and cooldown is not None else None

    def _limits(self, parts: Mapping[str, Any]) -> Limits | None:
        fields = self._object("limits", parts.get("limits"), _LIMITS, needed=_LIMITS)
        if not fields.keys() >= _LIMITS:
            return None
        least = self._whole("limits.min_shards", fields["min_shards"], 0)
        most, of_type = (
            self._whole(f"limits.{name}", fields[name], 1) for name in ("max_shards", "max_shards_per_type")
        )
        if least is None or most is None or of_type is None:
            return None
        found = Limits(least, most, of_type)
        if found.min_shards > found.max_shards:
            self._wrong("limits.min_shards", f"Must be at most limits.max_shards, which is {found.max_shards}.")
        return found

    def _minimums(self, data: Any) -> tuple[Minimum, ...]:
        if not isinstance(data, list) or len(data) > _MOST_MINIMUMS:
            self._wrong("minimums", f"Must be a list of at most {_MOST_MINIMUMS}.")
            return ()
        found = [self._minimum(f"minimums[{index}]", item) for index, item in enumerate(data)]
        return tuple(minimum for minimum in found if minimum is not None)

    def _minimum(self, name: str, data: Any) -> Minimum | None:
        fields = self._object(name, data, _MINIMUM, needed=_MINIMUM - {"days"})
        days = fields.get("days", list(DAYS))
        if not isinstance(days, list) or not days or not all(day in DAYS for day in days):
            self._wrong(f"{name}.days", f"Must be a list of one or more of: {', '.join(DAYS)}.")
            days = []
        start, end = (self._clock(f"{name}.{key}", fields.get(key)) for key in ("from", "to"))
        least = self._whole(f"{name}.min_shards", fields.get("min_shards"), 0)
        if start is None or end is None or least is None:
            return None
        if start == end:
            self._wrong(f"{name}.to", "Must be another time than 'from'.")
        return Minimum(frozenset(DAYS.index(day) for day in days), start, end, least)

    def _object(self, name: str, data: Any, known: set[str], needed: set[str] = frozenset()) -> dict[str, Any]:  # type: ignore[assignment]  # never written to
        if not isinstance(data, dict):
            self._wrong(name, f"Must be an object with: {', '.join(sorted(known))}.")
            return {}
        for key in sorted(map(str, set(data) - known)):
            self._wrong(
                key if name == "rules" else f"{name}.{key}", f"Is not known; known are: {', '.join(sorted(known))}."
            )
        found = {key: value for key, value in data.items() if key in known and value is not None}
        for key in sorted(needed - set(found)):
            self._wrong(f"{name}.{key}", "Is missing.")
        return found

    def _condition(self, name: str, value: Any) -> Condition | None:
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong(name, "Must be text, such as: avg_queue_wait > 30s AND all_shards_at_capacity")
            return None
        try:
            return read_condition(value)
        except ConditionError as error:
            self._wrong(name, f"{error}\n{error.pointed()}")
            return None

    def _duration(self, name: str, value: Any) -> float | None:
        if value is None:
            return None
        try:
            return read_duration(value if isinstance(value, str) else "")
        except ConditionError as error:
            self._wrong(name, str(error))
            return None

    def _whole(self, name: str, value: Any, least: int) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MOST_SHARDS:
            return value
        # What is missing was said already.
        if value is not None:
            self._wrong(name, f"Must be a whole number from {least} to {MOST_SHARDS}.")
        return None

    def _clock(self, name: str, value: Any) -> time | None:
        if isinstance(value, str) and (match := _CLOCK.fullmatch(value)):
            return time(int(match[1]), int(match[2]))
        if value is not None:
            self._wrong(name, "Must be a time of the day such as 08:00.")
        return None

    def _wrong(self, name: str, problem: str) -> None:
        self.problems.setdefault(name, []).append(problem)
