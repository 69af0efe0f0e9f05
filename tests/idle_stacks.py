"""End of the stacks that a process of the test run does not need any more.

A stack without work still uses several seconds of CPU time per minute. Its fixture would keep it until the session
ends, while the groups of tests after it use other stacks.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.groups import group_of

# Names of the session fixtures that start a stack.
STACKS = ("stack", "fragile", "guarded", "general")


class IdleStacks:
    """Plugin that finishes the fixture of a stack when the next group does not use it."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[pytest.FixtureDef[Any], Any]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: Any) -> Generator[None, object, object]:
        value = yield
        if fixturedef.argname in STACKS and fixturedef.scope == "session":
            self._running[fixturedef.argname] = (fixturedef, request)
        return value

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        # Fixtures of the module, which may use the stack, have already ended.
        if nextitem is None or group_of(nextitem.nodeid) == group_of(item.nodeid):
            return
        for name in [name for name in self._running if name not in getattr(nextitem, "fixturenames", ())]:
            fixturedef, request = self._running.pop(name)
            fixturedef.finish(request)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(IdleStacks(), "idle-stacks")
