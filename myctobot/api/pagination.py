"""Pages of long lists, and numbers in an address."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from myctobot.errors import InvalidRequest


class Pages(CursorPagination):
    """Newest first; a cursor stays right while new jobs come in."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        return max(1, whole_number(request, "limit", 50, self.max_page_size))

    def decode_cursor(self, request: Request) -> Any:
        cursor = super().decode_cursor(request)
        position = str(cursor.position) if cursor and cursor.position is not None else None
        # The library takes any text for a position; ours are the keys of rows.
        if position is not None and not (position.isascii() and position.isdigit() and len(position) < 20):
            raise InvalidRequest(fields={"cursor": ["Must be a cursor that a page of this list gave."]})
        return cursor


def whole_number(request: Request, name: str, default: int, most: int) -> int:
    """Read a query parameter that is a whole number from 0 to ``most``.

    Raises:
        InvalidRequest: it is something else.
    """
    return parse_whole_number(name, request.query_params.get(name, str(default)), most)


def parse_whole_number(name: str, text: str, most: int) -> int:
    """Read a whole number from 0 to ``most``; ``name`` is what the error calls it.

    Raises:
        InvalidRequest: it is something else.
    """
    # The length is looked at first: Python refuses to read numbers of thousands of digits.
    if not text.isascii() or not text.isdigit() or len(text) > len(str(most)) or int(text) > most:
        raise InvalidRequest(fields={name: [f"Must be a whole number from 0 to {most}."]})
    return int(text)
