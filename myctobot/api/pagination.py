"""Pages of long lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from django.db.models import Model, QuerySet
from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer
from rest_framework.utils.urls import replace_query_param

from myctobot.api.parameters import WholeNumber
from myctobot.errors import InvalidRequest

MAX_PAGE_BYTES: Final = 1024 * 1024
# Part of the description of each list.
PAGES: Final = f"A page ends at `limit` rows or {MAX_PAGE_BYTES // 1024**2} MiB; `next` is the address of the next one."
# Rows that are read at once. One row has at most about a megabyte.
_ROWS: Final = 25
_RENDERER: Final = JSONRenderer()
# A position is a primary key. A page follows it, or precedes it.
_AFTER: Final = "a"
_BEFORE: Final = "b"
_CURSOR: Final = re.compile(rf"(?P<side>[{_AFTER}{_BEFORE}])(?P<id>[0-9]{{1,18}})")

LIMIT: Final = WholeNumber("limit", 1, 200, 50, description="Maximum number of rows.")
CURSOR: Final = OpenApiParameter(
    "cursor",
    {"type": "string", "pattern": rf"^[{_AFTER}{_BEFORE}][0-9]{{1,18}}$"},
    description="Place in the list, as in the addresses `next` and `previous` of a page.",
)
# Query parameters of each list.
PAGED: Final = (CURSOR, LIMIT)


class Pages(CursorPagination):
    """Pages with the newest row first, bounded in bytes; a cursor stays valid while rows are added."""

    ordering = "-id"
    page_size_query_param = LIMIT.name
    cursor_query_param = CURSOR.name

    def get_page_size(self, request: Request) -> int:
        return LIMIT.read(request.query_params)

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

    def decode_cursor(self, request: Request) -> Cursor | None:
        text = request.query_params.get(CURSOR.name)
        if text is None:
            return None
        found = _CURSOR.fullmatch(text)
        if found is None:
            # Without an error, a client that damages a cursor would read the first page again and again.
            raise InvalidRequest(fields={CURSOR.name: ["Must be a cursor from a page of this list."]})
        return Cursor(offset=0, reverse=found["side"] == _BEFORE, position=int(found["id"]))

    def encode_cursor(self, cursor: Cursor) -> str:
        side = _BEFORE if cursor.reverse else _AFTER
        return str(replace_query_param(self.base_url or "", CURSOR.name, f"{side}{cursor.position}"))


def _encoded(queryset: QuerySet[Any], ids: list[int], serializer: type[BaseSerializer[Any]]) -> Iterator[bytes]:
    """Yield the rows with these ids as JSON, and nothing in place of a row that was just deleted. Few are in memory."""
    # One serializer for all rows, because some keep what they read for the whole list.
    child = serializer(many=True).child  # type: ignore[attr-defined]  # many=True makes a ListSerializer
    for start in range(0, len(ids), _ROWS):
        part = ids[start : start + _ROWS]
        found: dict[int, Model] = {row.pk: row for row in queryset.filter(pk__in=part)}
        for row_id in part:
            row = found.pop(row_id, None)
            if row is None:
                yield b""
                continue
            yield _RENDERER.render(child.to_representation(row))
            # A row and its prefetched rows refer to each other, and only a full collection would free them.
            getattr(row, "_prefetched_objects_cache", {}).clear()
