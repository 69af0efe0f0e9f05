"""Checks what shards send, field by field: these calls come again and again, and a serializer each costs more than
storing what they say."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from myctobot.errors import InvalidRequest

# What PostgreSQL stores as a whole number, and JavaScript reads as one.
MOST = 2**53


class Shape:
    """An object of a request. What is wrong is collected; ``done`` tells of all of it at once.

    Args:
        value: of any kind.
        prefix: where it stands in the request, such as ``proof.``.
        problems: of the object around it.
    """

    def __init__(self, value: Any, prefix: str = "", problems: dict[str, list[str]] | None = None) -> None:
        self._prefix = prefix
        self.problems: dict[str, list[str]] = {} if problems is None else problems
        self._value: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.wrong("", "Must be an object.")

    def wrong(self, name: str, problem: str) -> None:
        """Say what is wrong with a field."""
        where = f"{self._prefix}{name}".rstrip(".") or "request"
        self.problems.setdefault(where, []).append(problem)

    def has(self, name: str) -> bool:
        """Whether there is a field of that name that is not null."""
        return self._value.get(name) is not None

    def any(self, name: str) -> Any:
        """Whatever stands there; absent or null is wrong."""
        if (value := self._value.get(name)) is None:
            self.wrong(name, "This field is required." if name not in self._value else "Must not be null.")
        return value

    def whole(self, name: str, least: int = 0, most: int | None = None) -> int:
        """A whole number between two, both included; the texts of numbers are none."""
        value = self.any(name)
        if value is None:
            return least
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(name, "Must be a whole number.")
        elif value < least or (most is not None and value > most):
            self.wrong(name, f"Must be from {least}{'' if most is None else f' to {most}'}.")
        else:
            return value
        return least

    def number(self, name: str, least: float, most: float) -> float:
        """A finite number between two."""
        value = self.any(name)
        if value is None:
            return least
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(name, "Must be a number.")
        elif not (math.isfinite(value) and least <= value <= most):
            self.wrong(name, f"Must be from {least} to {most}.")
        else:
            return value
        return least

    def text(self, name: str, most: int, least: int = 1) -> str:
        """A text of so many characters, none of which PostgreSQL or UTF-8 refuses."""
        value = self.any(name)
        if value is not None and (problem := text_problem(value, most, least)):
            self.wrong(name, problem)
        return value if isinstance(value, str) else ""

    def one_of(self, name: str, choices: Collection[str]) -> str:
        """One of a few words."""
        value = self.any(name)
        if value is not None and (not isinstance(value, str) or value not in choices):
            self.wrong(name, f"Must be one of: {', '.join(sorted(choices))}.")
        return value if isinstance(value, str) else ""

    def truth(self, name: str) -> bool:
        value = self.any(name)
        if value is not None and not isinstance(value, bool):
            self.wrong(name, "Must be true or false.")
        return value is True

    def texts(self, name: str, most: int, most_characters: int) -> list[str]:
        """A list of at most so many texts."""
        value = self.any(name)
        if value is not None and not isinstance(value, list):
            self.wrong(name, "Must be a list.")
        listed: list[Any] = value if isinstance(value, list) else []
        if len(listed) > most:
            self.wrong(name, f"Has {len(listed)} entries; at most {most} are taken.")
        for problem in filter(None, (text_problem(item, most_characters) for item in listed[:most])):
            self.wrong(name, problem)
        return listed

    def object(self, name: str) -> dict[str, Any]:
        value = self.any(name)
        if value is not None and not isinstance(value, dict):
            self.wrong(name, "Must be an object.")
        return value if isinstance(value, dict) else {}

    def shape(self, name: str) -> Shape:
        """An object inside; its problems are this one's."""
        return Shape(self._value.get(name), f"{self._prefix}{name}.", self.problems)

    def done(self) -> None:
        """Raises InvalidRequest: something was wrong."""
        if self.problems:
            raise InvalidRequest(fields=self.problems)


def text_problem(value: Any, most: int, least: int = 1) -> str | None:
    """What keeps a value from being a text that can be stored; None when nothing does."""
    if not isinstance(value, str):
        return "Must be a text."
    if not least <= len(value) <= most:
        return f"Has {len(value)} characters; must have {least} to {most}."
    if "\x00" in value:
        return "Must hold no NUL."
    # The common case is told without encoding it.
    return None if value.isascii() or _encodes(value) else "Must hold no half of a surrogate pair."


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def shape_of(value: Any) -> Iterator[Shape]:
    """Read an object, and raise InvalidRequest in the end when anything of it was wrong."""
    shape = Shape(value)
    yield shape
    shape.done()
