"""Validation of calls of shards, field by field.

These calls are frequent, and a serializer for each would cost more than storing their data.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from myctobot.errors import InvalidRequest

# Up to here, JavaScript represents integers exactly.
MAX_INTEGER = 2**53


class FieldReader:
    """Reader for an object of a request, which collects all problems before ``raise_problems`` raises them.

    Args:
        value: the object; another type is a problem.
        prefix: path of the object in the request, such as ``proof.``.
        problems: problems of the enclosing object.
    """

    def __init__(self, value: Any, prefix: str = "", problems: dict[str, list[str]] | None = None) -> None:
        self._prefix = prefix
        self.problems: dict[str, list[str]] = {} if problems is None else problems
        self._value: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.add_error("", "Must be an object.")

    def add_error(self, name: str, problem: str) -> None:
        """Add a problem of a field."""
        path = f"{self._prefix}{name}".rstrip(".") or "request"
        self.problems.setdefault(path, []).append(problem)

    def has(self, name: str) -> bool:
        """Tell whether a field is present and not null."""
        return self._value.get(name) is not None

    def required(self, name: str) -> Any:
        """Return a field's value of any type; a missing field or null is a problem."""
        if (value := self._value.get(name)) is None:
            self.add_error(name, "This field is required." if name not in self._value else "Must not be null.")
        return value

    def integer(self, name: str, minimum: int = 0, maximum: int | None = None) -> int:
        """Read an integer within inclusive bounds; numbers as text are a problem."""
        value = self.required(name)
        if value is None:
            return minimum
        if isinstance(value, bool) or not isinstance(value, int):
            self.add_error(name, "Must be a whole number.")
        elif value < minimum or (maximum is not None and value > maximum):
            self.add_error(name, f"Must be from {minimum}{'' if maximum is None else f' to {maximum}'}.")
        else:
            return value
        return minimum

    def number(self, name: str, minimum: float, maximum: float) -> float:
        """Read a finite number within inclusive bounds."""
        value = self.required(name)
        if value is None:
            return minimum
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.add_error(name, "Must be a number.")
        elif not (math.isfinite(value) and minimum <= value <= maximum):
            self.add_error(name, f"Must be from {minimum} to {maximum}.")
        else:
            return value
        return minimum

    def text(self, name: str, maximum: int, minimum: int = 1) -> str:
        """Read a text with a bounded number of characters that PostgreSQL and UTF-8 accept."""
        value = self.required(name)
        if value is not None and (problem := text_problem(value, maximum, minimum)):
            self.add_error(name, problem)
        return value if isinstance(value, str) else ""

    def one_of(self, name: str, choices: Collection[str]) -> str:
        """Read one of the given texts."""
        value = self.required(name)
        if value is not None and (not isinstance(value, str) or value not in choices):
            self.add_error(name, f"Must be one of: {', '.join(sorted(choices))}.")
        return value if isinstance(value, str) else ""

    def boolean(self, name: str) -> bool:
        """Read true or false."""
        value = self.required(name)
        if value is not None and not isinstance(value, bool):
            self.add_error(name, "Must be true or false.")
        return value is True

    def texts(self, name: str, maximum: int, max_length: int) -> list[str]:
        """Read a list with a bounded number of texts."""
        value = self.required(name)
        if value is not None and not isinstance(value, list):
            self.add_error(name, "Must be a list.")
        listed: list[Any] = value if isinstance(value, list) else []
        if len(listed) > maximum:
            self.add_error(name, f"Has {len(listed)} entries; at most {maximum} are allowed.")
        for problem in filter(None, (text_problem(item, max_length) for item in listed[:maximum])):
            self.add_error(name, problem)
        return listed

    def object(self, name: str) -> dict[str, Any]:
        """Read an object without checking its fields."""
        value = self.required(name)
        if value is not None and not isinstance(value, dict):
            self.add_error(name, "Must be an object.")
        return value if isinstance(value, dict) else {}

    def nested(self, name: str) -> FieldReader:
        """Return a reader for an object in this one; both share their problems."""
        return FieldReader(self._value.get(name), f"{self._prefix}{name}.", self.problems)

    def raise_problems(self) -> None:
        """Raise InvalidRequest if there is a problem."""
        if self.problems:
            raise InvalidRequest(fields=self.problems)


def text_problem(value: Any, maximum: int, minimum: int = 1) -> str | None:
    """Return the reason why a value is not a text that can be stored, or None."""
    if not isinstance(value, str):
        return "Must be a text."
    if not minimum <= len(value) <= maximum:
        return f"Has {len(value)} characters; must have {minimum} to {maximum}."
    if "\x00" in value:
        return "Must not contain NUL."
    # ASCII is the common case and needs no encoding.
    return None if value.isascii() or _encodes(value) else "Must not contain half of a surrogate pair."


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextmanager
def read_fields(value: Any) -> Iterator[FieldReader]:
    """Read an object, and raise InvalidRequest at the end if there were problems."""
    reader = FieldReader(value)
    yield reader
    reader.raise_problems()
