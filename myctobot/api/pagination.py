"""Pages of long lists, and numbers in query parameters."""

from __future__ import annotations

from typing import Any

from rest_framework.pagination import CursorPagination
from rest_framework.request import Request

from myctobot.errors import InvalidRequest


class Pages(CursorPagination):
    """Pages with the newest row first; a cursor stays valid while rows are added."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        return max(1, whole_number(request, "limit", 50, self.max_page_size))

    def decode_cursor(self, request: Request) -> Any:
        cursor = super().decode_cursor(request)
        position = str(cursor.position) if cursor and cursor.position is not None else None
        # The library accepts any text as a position, but our positions are primary keys.
        if position is not None and not (position.isascii() and position.isdigit() and len(position) < 20):
            raise InvalidRequest(fields={"cursor": ["Must be a cursor from a page of this list."]})
        return cursor


def whole_number(request: Request, name: str, default: int, maximum: int) -> int:
    """Read a query parameter that is a whole number from 0 to ``maximum``.

    Raises:
        InvalidRequest: the text is not such a number.
    """
    return parse_whole_number(name, request.query_params.get(name, str(default)), maximum)


def parse_whole_number(name: str, text: str, maximum: int) -> int:
    """Read a whole number from 0 to ``maximum``; errors call it ``name``.

    Raises:
        InvalidRequest: the text is not such a number.
    """
    # The length is checked first, because Python refuses to parse thousands of digits.
    if not text.isascii() or not text.isdigit() or len(text) > len(str(maximum)) or int(text) > maximum:
        raise InvalidRequest(fields={name: [f"Must be a whole number from 0 to {maximum}."]})
    return int(text)
