"""Pages of long lists, and numbers in query parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from django.db.models import Model, QuerySet
from django.http import HttpResponse
from rest_framework.pagination import CursorPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer

from myctobot.errors import InvalidRequest

MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
# Part of the description of each list.
PAGES: Final = f"A page ends at `limit` rows or {MAX_PAGE_BYTES // 1024**2} MiB; `next` is the address of the next one."
# Rows that are read at once. One row has at most about a megabyte.
_ROWS: Final = 25
_RENDERER: Final = JSONRenderer()


class Pages(CursorPagination):
    """Pages with the newest row first, bounded in bytes; a cursor stays valid while rows are added."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        return max(1, whole_number(request, "limit", 50, self.max_page_size))

    def respond(self, queryset: QuerySet[Any], request: Request, serializer: type[BaseSerializer[Any]]) -> HttpResponse:
        """Return the page that a request asks for. It ends early at ``MAX_PAGE_BYTES``, with at least one row."""
        ids = [row["id"] for row in self.paginate_queryset(queryset.prefetch_related(None).values("id"), request) or []]
        # A page before a cursor ends at its beginning, so that no row between the page and the cursor is missing.
        backwards = bool(self.cursor and self.cursor.reverse)
        if backwards:
            ids.reverse()
        rows: list[bytes] = []
        size = 0
        for number, row in enumerate(_encoded(queryset, ids, serializer)):
            size += len(row)
            if size > MAX_PAGE_BYTES and any(rows):
                self._end_before(ids[number], number, backwards)
                break
            rows.append(row)
        shown = list(filter(None, reversed(rows) if backwards else rows))
        links = json.dumps({"next": self.get_next_link(), "previous": self.get_previous_link()}, separators=(",", ":"))
        body = links[:-1].encode() + b',"results":[' + b",".join(shown) + b"]}"
        return HttpResponse(body, content_type=_RENDERER.media_type)

    def _end_before(self, row_id: int, count: int, backwards: bool) -> None:
        """Keep only the first ``count`` rows, in the order of reading, so that the links continue at ``row_id``."""
        page = self.page or []
        if backwards:
            self.page, self.has_previous, self.previous_position = page[-count:], True, str(row_id)
        else:
            self.page, self.has_next, self.next_position = page[:count], True, str(row_id)

    def decode_cursor(self, request: Request) -> Any:
        cursor = super().decode_cursor(request)
        position = str(cursor.position) if cursor and cursor.position is not None else None
        # The library accepts any text as a position, but our positions are primary keys.
        if position is not None and not (position.isascii() and position.isdigit() and len(position) < 20):
            raise InvalidRequest(fields={"cursor": ["Must be a cursor from a page of this list."]})
        return cursor


def _encoded(queryset: QuerySet[Any], ids: list[int], serializer: type[BaseSerializer[Any]]) -> Iterator[bytes]:
    """Yield the rows with these ids as JSON, and nothing in place of a row that was just deleted. Few are in memory."""
    # One serializer for all rows, because some keep what they read for the whole list.
    child = serializer(many=True).child  # type: ignore[attr-defined]  # many=True makes a ListSerializer
    for start in range(0, len(ids), _ROWS):
        part = ids[start : start + _ROWS]
        found: dict[int, Model] = {row.pk: row for row in queryset.filter(pk__in=part)}
        for row_id in part:
            row = found.pop(row_id, None)
            yield b"" if row is None else _RENDERER.render(child.to_representation(row))


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
