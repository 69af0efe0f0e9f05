"""Programs that only some tests need: ``@pytest.mark.needs("chromium")``.

``make setup-tests`` installs them, or says why it cannot. Such a test is skipped on a machine that cannot have the
program; where the variable CI is set, nobody would notice, so nothing runs at all.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.fixtures.chromium import find_chromium
from tests.fixtures.ssh_server import find_sshd

PROGRAMS = {
    "chromium": find_chromium,
    "faketime": lambda: shutil.which("faketime"),
    "ip": lambda: shutil.which("ip"),
    "sshd": find_sshd,
}


def wanted(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers("needs") for name in mark.args}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {name for name, find in PROGRAMS.items() if find() is None}
    for item in items:
        if lacking := wanted(item) & missing:
            reason = f"there is no {' and no '.join(sorted(lacking))}; 'make setup-tests' says why"
            if os.environ.get("CI"):
                raise pytest.UsageError(f"{item.nodeid} cannot run: {reason}")
            item.add_marker(pytest.mark.skip(reason=reason))
