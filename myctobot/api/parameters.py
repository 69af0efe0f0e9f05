"""Query parameters of the REST API: one description for the schema, for reading them, and for refusing others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from django.http import QueryDict
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.views import APIView

from myctobot.errors import InvalidRequest, MyctobotError
from myctobot.lib.shortlist import MAX_NAMES

_MAX_SHOWN = 60


class WholeNumber(OpenApiParameter):
    """Parameter that is a whole number. It is read with the bounds that the schema has.

    Args:
        name: in the query or in the headers.
        minimum: smallest value.
        maximum: largest value.
        default: value of an absent parameter.
    """

    def __init__(self, name: str, minimum: int, maximum: int, default: int, **options: Any) -> None:
        self._bounds, self._default = (minimum, maximum), default
        described = {"type": "integer", "minimum": minimum, "maximum": maximum, "default": default}
        super().__init__(name, described, **options)

    def read(self, values: Mapping[str, str]) -> int:
        """Read the number from a query or from headers.

        Raises:
            InvalidRequest: the text is not such a number.
        """
        text = values.get(self.name)
        if text is None:
            return self._default
        minimum, maximum = self._bounds
        # The length is checked first, because Python refuses to parse thousands of digits.
        is_number = text.isascii() and text.isdigit() and len(text) <= len(str(maximum))
        if not is_number or not minimum <= int(text) <= maximum:
            raise InvalidRequest(fields={self.name: [f"Must be a whole number from {minimum} to {maximum}."]})
        return int(text)


class Choice(OpenApiParameter):
    """Parameter that is one of a few words."""

    def __init__(self, name: str, words: Sequence[str], **options: Any) -> None:
        self._words = list(words)
        super().__init__(name, {"type": "string", "enum": self._words}, **options)

    def read(self, values: Mapping[str, str]) -> str | None:
        """Return the word; None for an absent parameter.

        Raises:
            InvalidRequest: the text is not one of the words.
        """
        text = values.get(self.name)
        if text is not None and text not in self._words:
            raise InvalidRequest(fields={self.name: [f"Must be one of: {', '.join(self._words)}."]})
        return text


class ApiView(APIView):
    """View of the REST API. It refuses unknown and repeated query parameters, as bodies refuse unknown fields.

    Attributes:
        query: parameters by method, for the schema too.
        errors: by method, those that only some calls have, for the schema.
    """

    query: ClassVar[Mapping[str, Sequence[OpenApiParameter]]] = {}
    errors: ClassVar[Mapping[str, Sequence[type[MyctobotError]]]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        method = "GET" if request.method == "HEAD" else str(request.method)
        handler = method.lower()
        if method == "OPTIONS" or handler not in self.http_method_names or not hasattr(self, handler):
            # The answer is 405 with any query.
            return
        check_query(request.query_params, [parameter.name for parameter in self.query.get(method, ())])


def check_query(query: QueryDict, known: Sequence[str]) -> None:
    """Check that a query has each parameter at most once, and only known ones.

    Raises:
        InvalidRequest: it has others; the error names the first ones.
    """
    problems: dict[str, list[str]] = {}
    names = f"the known parameters are: {', '.join(sorted(known))}" if known else "this call has none"
    for name, values in query.lists():
        if len(problems) == MAX_NAMES:
            break
        if name not in known:
            problems[name[:_MAX_SHOWN]] = [f"Unknown parameter; {names}."]
        elif len(values) > 1:
            problems[name] = ["Occurs more than once."]
    if problems:
        raise InvalidRequest(fields=problems)
