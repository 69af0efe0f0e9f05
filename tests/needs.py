"""Programs that only some tests need: ``@pytest.mark.needs("chromium")``.

``make setup-tests`` installs them or gives the reason why it cannot. A test is skipped on a machine without its
program. If the variable CI is set, a missing program stops the run, because skipped tests would go unnoticed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from myctobot.stack.redis import find_server
from shards.broker_access.acl_rules import supports
from tests.fixtures.chromium import find_chromium
from tests.fixtures.lfs_server import find_lfs
from tests.fixtures.nginx import find_nginx
from tests.fixtures.ssh_server import SBIN, find_sshd
from workers.sandbox.disk_image import LOOP_CONTROL
from workers.sandbox.limits import V2, own_groups

# Where ``scripts/setup --tests`` installs it.
REDOCLY = Path(__file__).parents[1] / ".cache/redocly/node_modules/.bin/redocly"


def find_control_group() -> Path | None:
    """Return a control group in which this process may create others."""
    own = own_groups(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    return next((path for path in own.values() if os.access(path, os.W_OK)), None)


def find_controller() -> tuple[Path, str] | None:
    """Return the top of the groups of version 2, and a controller that may be enabled below it."""
    mounts = Path("/proc/self/mountinfo").read_text()
    top = own_groups("0::/", mounts).get(V2)
    if top is None or not os.access(top / "cgroup.subtree_control", os.W_OK):
        return None
    # Below another top than the kernel's, which has no events, a controller cannot be enabled while it has processes.
    file = "cgroup.subtree_control" if (top / "cgroup.events").exists() else "cgroup.controllers"
    names = (top / file).read_text().split()
    return (top, "memory" if "memory" in names else names[0]) if names else None


PROGRAMS: dict[str, Callable[[], object]] = {
    "a control group": find_control_group,
    "a controller of version 2": find_controller,
    "chromium": find_chromium,
    "debootstrap": lambda: shutil.which("debootstrap", path=SBIN),
    "git-lfs": find_lfs,
    "faketime": lambda: shutil.which("faketime"),
    "a redis of 7.0 or newer": lambda: supports(find_server()[1]) or None,
    "ip": lambda: shutil.which("ip"),
    "loop devices": lambda: LOOP_CONTROL if LOOP_CONTROL.exists() else None,
    "lxc": lambda: shutil.which("lxc-start"),
    "nft": lambda: shutil.which("nft", path=SBIN),
    "nginx": find_nginx,
    "npm": lambda: shutil.which("npm"),
    "redocly": lambda: REDOCLY if REDOCLY.exists() else None,
    "root": lambda: "root" if os.geteuid() == 0 else None,
    "sshd": find_sshd,
    "tinyproxy": lambda: shutil.which("tinyproxy", path=SBIN),
    "zstd": lambda: shutil.which("zstd"),
}


def wanted(item: pytest.Item) -> set[str]:
    return {name for mark in item.iter_markers("needs") for name in mark.args}


# Run last, so that deselected tests need no programs.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = {name for name, find in PROGRAMS.items() if find() is None}
    for item in items:
        if lacking := wanted(item) & missing:
            reason = f"there is no {' and no '.join(sorted(lacking))}; 'make setup-tests' says why"
            if os.environ.get("CI"):
                raise pytest.UsageError(f"{item.nodeid} cannot run: {reason}")
            item.add_marker(pytest.mark.skip(reason=reason))
