"""Notice that this server process is about to end, for responses that do not end on their own."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakMethod


class ShutdownNotice:
    """Call of all registered methods when the process is asked to end; it does not keep their objects alive."""

    def __init__(self) -> None:
        self._methods: list[WeakMethod[Callable[[], None]]] = []

    def register(self, method: Callable[[], None]) -> None:
        """Register a bound method, which is called in the event loop of the server and must not block."""
        self._methods = [known for known in self._methods if known() is not None]
        self._methods.append(WeakMethod(method))

    def give(self) -> None:
        """Call the registered methods."""
        for known in self._methods:
            if method := known():
                method()


# One for the process.
shutdown_notice = ShutdownNotice()
