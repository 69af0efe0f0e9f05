"""Caches of one web process."""

from __future__ import annotations

import threading
from typing import Any, Final, TypeVar

from django.http import HttpRequest

# The key of an ASGI scope under which the application passes its caches on.
SCOPE_KEY: Final = "myctobot.caches"

T = TypeVar("T")


class ProcessCaches:
    """Hold one instance of each class of cache, for as long as a web process lives.

    The ASGI application builds one object and passes it on, so that two applications, such as those of two tests,
    share nothing.

    Args:
        given: caches that replace those of the same classes.
    """

    def __init__(self, *given: object) -> None:
        self._lock = threading.Lock()
        self._caches: dict[type, Any] = {type(cache): cache for cache in given}

    def get(self, kind: type[T]) -> T:
        """Return the cache of a class, which is made by the first call."""
        found: T | None = self._caches.get(kind)
        if found is None:
            with self._lock:
                found = self._caches.setdefault(kind, self._caches.get(kind) or kind())
        return found


def process_caches(request: HttpRequest) -> ProcessCaches:
    """Return the caches of the process that serves a request; empty ones outside the ASGI application."""
    scope: dict[str, Any] = getattr(request, "scope", {})
    return scope.get(SCOPE_KEY) or ProcessCaches()
