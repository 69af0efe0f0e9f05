"""Parser for the conditions of autoscaling rules; pure.

    condition  = any
    any        = all { "OR" all }
    all        = one { "AND" one }
    one        = "NOT" one | "(" any ")" | flag | value comparison value
    value      = measure | number [ "s" | "m" | "h" | "d" | "%" ]
    comparison = ">" | ">=" | "<" | "<=" | "==" | "!="

Case matters: ``AND`` is an operator, ``avg_queue_wait`` a measure. Both sides of a comparison must be of one kind, so
that a rule cannot compare seconds with shards. The language has nothing else: no names, calls or attributes of Python.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

MAX_LENGTH: Final = 500
# Deeper than any practical rule, and safe for recursion.
MAX_DEPTH: Final = 20


class Kind(StrEnum):
    """Kind of a value; both sides of a comparison have the same kind."""

    DURATION = "a duration"
    COUNT = "a count"
    SHARE = "a percentage"
    FLAG = "a yes or no"


# Kind by name of the measure. Durations are in seconds, shares in percent.
MEASURES: Final[Mapping[str, Kind]] = {
    "avg_queue_wait": Kind.DURATION,
    "p95_queue_wait": Kind.DURATION,
    "max_queue_wait": Kind.DURATION,
    "shard_idle": Kind.DURATION,
    "waiting_jobs": Kind.COUNT,
    "free_slots": Kind.COUNT,
    "shard_count": Kind.COUNT,
    "shards_building": Kind.COUNT,
    "min_shards": Kind.COUNT,
    "max_shards": Kind.COUNT,
    "utilisation": Kind.SHARE,
    "all_shards_at_capacity": Kind.FLAG,
}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?)(?P<unit>[A-Za-z%]*)|(?P<word>[A-Za-z_]\w*)|(?P<sign>[<>=!]=?|[()]))"
)


class ConditionError(ValueError):
    """The condition is not valid.

    Attributes:
        at, length: position and length of the invalid part, in characters.
        text: the condition.
    """

    def __init__(self, problem: str, text: str, at: int, length: int = 1) -> None:
        super().__init__(problem)
        self.text, self.at, self.length = text, at, max(1, length)

    def marked_text(self) -> str:
        """Return the condition with carets under the invalid part."""
        return f"{self.text}\n{' ' * self.at}{'^' * self.length}"


class _Token(NamedTuple):
    kind: str
    text: str
    at: int
    unit: str = ""

    @property
    def length(self) -> int:
        return len(self.text) + len(self.unit)


@dataclass(frozen=True)
class _Value:
    """Measure, or a number if the name is empty."""

    kind: Kind
    name: str = ""
    number: float = 0.0

    def of(self, measured: Mapping[str, float]) -> float:
        return measured[self.name] if self.name else self.number


@dataclass(frozen=True)
class Condition:
    """Parsed condition.

    Attributes:
        text: the source text.
        measures: names of the measures that it uses.
    """

    text: str
    measures: frozenset[str]
    _holds: Callable[[Mapping[str, float]], bool] = field(compare=False, repr=False)

    def holds(self, measured: Mapping[str, float]) -> bool:
        """Evaluate the condition.

        Args:
            measured: value of each of ``measures``: durations in seconds, shares in percent, flags as 0 or 1.

        Raises:
            KeyError: a measure is missing.
        """
        return self._holds(measured)


def read_condition(text: str) -> Condition:
    """Parse a condition such as ``avg_queue_wait > 30s AND all_shards_at_capacity``.

    Raises:
        ConditionError: it is not valid; the error marks the invalid word.
    """
    if len(text) > MAX_LENGTH:
        raise ConditionError(f"Has {len(text)} characters; at most {MAX_LENGTH} are allowed.", text, MAX_LENGTH)
    reader = _TokenReader(text, _tokens(text))
    holds = reader.any(0)
    reader.expect_end()
    return Condition(text, frozenset(reader.measures), holds)


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            at = len(text) - len(text[at:].lstrip())
            raise ConditionError(f"'{text[at]}' is not allowed here.", text, at)
        kind = match.lastgroup if match.lastgroup != "unit" else "number"
        assert kind is not None  # noqa: S101  # a match has one of the groups
        found.append(_Token(kind, match[kind], match.start(kind), match["unit"] or ""))
        at = match.end()
    return found


Holds = Callable[[Mapping[str, float]], bool]


class _TokenReader:
    """Recursive descent parser over the tokens."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self._text, self._tokens, self._next = text, tokens, 0
        self.measures: set[str] = set()

    def any(self, depth: int) -> Holds:
        return self._chain("OR", self._all, any, depth)

    def _all(self, depth: int) -> Holds:
        return self._chain("AND", self._one, all, depth)

    def _chain(
        self, word: str, part: Callable[[int], Holds], joined: Callable[[list[bool]], bool], depth: int
    ) -> Holds:
        parts = [part(depth)]
        while self._is(word):
            self._next += 1
            parts.append(part(depth))
        return parts[0] if len(parts) == 1 else lambda measured: joined([holds(measured) for holds in parts])

    def _one(self, depth: int) -> Holds:
        if depth >= MAX_DEPTH:
            raise self._error(f"Is nested more than {MAX_DEPTH} levels deep.")
        if self._is("NOT"):
            self._next += 1
            inner = self._one(depth + 1)
            return lambda measured: not inner(measured)
        if self._is("("):
            opening = self._tokens[self._next]
            self._next += 1
            inside = self.any(depth + 1)
            if not self._is(")"):
                raise ConditionError("This parenthesis is not closed.", self._text, opening.at)
            self._next += 1
            return inside
        return self._comparison()

    def _comparison(self) -> Holds:
        first = self._here()
        left = self._value()
        if left.kind is Kind.FLAG:
            return lambda measured: bool(left.of(measured))
        sign = self._here()
        if sign is None or sign.text not in _COMPARISONS:
            subject = f"'{first.text}{first.unit}' is {left.kind.value}" if first else "This"
            raise self._error(f"{subject}: compare it with {', '.join(_COMPARISONS)}.")
        self._next += 1
        second = self._here()
        right = self._value()
        if right.kind is not left.kind:
            assert second is not None  # noqa: S101  # a value was read there
            hint = " Write 30s, 5m or 1h for a duration, 80% for a percentage." if right.kind is Kind.COUNT else ""
            raise ConditionError(
                f"Is {right.kind.value}, and the other side is {left.kind.value}.{hint}",
                self._text, second.at, second.length,
            )  # fmt: skip
        compare = _COMPARISONS[sign.text]
        return lambda measured: compare(left.of(measured), right.of(measured))

    def _value(self) -> _Value:
        token = self._here()
        if token is None or token.kind == "sign" or token.text in ("AND", "OR", "NOT"):
            raise self._error(f"A measure or a number is missing here. Measures: {', '.join(MEASURES)}.")
        self._next += 1
        if token.kind == "number":
            return self._number(token)
        if token.text not in MEASURES:
            raise ConditionError(
                f"There is no measure '{token.text}'. Measures: {', '.join(MEASURES)}.",
                self._text, token.at, token.length,
            )  # fmt: skip
        self.measures.add(token.text)
        return _Value(MEASURES[token.text], name=token.text)

    def _number(self, token: _Token) -> _Value:
        number = float(token.text)
        if not token.unit:
            return _Value(Kind.COUNT, number=number)
        if token.unit == "%":
            return _Value(Kind.SHARE, number=number)
        if token.unit not in _SECONDS:
            raise ConditionError(
                f"'{token.unit}' is not a unit. Units: s, m, h, d, %.",
                self._text, token.at + len(token.text), len(token.unit),
            )  # fmt: skip
        return _Value(Kind.DURATION, number=number * _SECONDS[token.unit])

    def expect_end(self) -> None:
        if (token := self._here()) is not None:
            raise ConditionError("Only AND or OR may follow here.", self._text, token.at, token.length)

    def _here(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _is(self, text: str) -> bool:
        token = self._here()
        return token is not None and token.text == text

    def _error(self, problem: str) -> ConditionError:
        token = self._here()
        if token is None:
            return ConditionError(problem, self._text, len(self._text))
        return ConditionError(problem, self._text, token.at, token.length)


def read_duration(text: str) -> float:
    """Parse a duration such as ``5m`` and return seconds.

    Raises:
        ConditionError: it is not a duration.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)([smhd])\s*", text)
    if match is None:
        raise ConditionError("Must be a duration such as 30s, 5m, 1h or 1d.", text, 0, len(text))
    return float(match[1]) * _SECONDS[match[2]]
