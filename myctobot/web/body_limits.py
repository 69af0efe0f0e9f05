"""Maximum sizes of the bodies of requests, by route; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# Requests with other methods have no body.
METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
# Enough for a form without long texts, and for an error that names the right address of a misspelt one.
DEFAULT_BYTES: Final = 64 * 1024
_PARAMETER: Final = re.compile(r"<\w+:\w+>")


class BodyLimits:
    """Maximum sizes of bodies, by method and path.

    Args:
        routes: bytes by route. A route is a path of Django with its parameters (``/jobs/<str:id>``); a ``*`` at its
            end matches any rest. The first match counts.
        default: bytes for other paths.
    """

    def __init__(self, routes: Mapping[str, int], default: int = DEFAULT_BYTES) -> None:
        self._sizes = list(routes.values())
        # One expression for all routes takes about a microsecond.
        self._routes = re.compile("|".join(f"({_expression(route)})" for route in routes), re.DOTALL)
        self._default = default

    def of_route(self, path: str) -> int | None:
        """Return the limit of the route of a path, or None if no route matches."""
        found = self._routes.fullmatch(path)
        return None if found is None or found.lastindex is None else self._sizes[found.lastindex - 1]

    def of_request(self, method: str, path: str) -> int:
        """Return the limit of a request."""
        if method not in METHODS:
            return 0
        found = self.of_route(path)
        return self._default if found is None else found


def _expression(route: str) -> str:
    prefix = route.removesuffix("*")
    parts = [re.escape(part) for part in _PARAMETER.split(prefix)]
    return "[^/]+".join(parts) + (".*" if route != prefix else "")
