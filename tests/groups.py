"""Groups of tests for pytest-xdist: one worker runs a whole group, so that the group shares its fixtures.

A group contains the tests of one file, or of the files in one line of ``GROUPS``. Markers cannot define it, because the
process that distributes the tests knows only their names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# Each group shares a stack or a service. Workers take the groups in this order, so the slowest are first.
GROUPS: tuple[tuple[str, ...], ...] = (
    # These tests stop processes of the stack with one slot. Each of the two groups starts such a stack.
    ("tests/acceptance/test_failures.py",),
    tuple(f"tests/acceptance/test_{name}.py" for name in ("reload", "silence", "worker_killed")),
    # These tests use the stack of the run, of which each group starts its own.
    tuple(f"tests/browser/test_{name}.py" for name in ("accounts", "admin", "console", "docs", "log")),
    tuple(f"tests/browser/test_{name}.py" for name in ("modules", "ops", "panel", "waiting")),
    # These files are slow, and other files come last.
    ("tests/acceptance/test_kept_work.py",),
    ("tests/acceptance/test_web_memory.py",),
    ("tests/acceptance/test_demo.py",),
    tuple(f"tests/acceptance/test_{name}.py" for name in ("broker_user", "cancel", "cli", "jobs")),
    ("tests/acceptance/test_stream_contract.py",),
    # These tests use the stack that trusts the test servers.
    tuple(f"tests/acceptance/test_{name}.py" for name in ("attacks", "callbacks", "secrets")),
    ("tests/integration/stack/test_up.py",),
    # These tests wait for timeouts of servers that they share.
    ("tests/attacks/",),
    ("tests/integration/web/test_generated_calls.py",),
    ("tests/integration/jobs/capacity/test_scaling_histories.py",),
    ("tests/integration/jobs/lifecycle/test_histories.py",),
    ("tests/integration/jobs/streaming/",),
    ("tests/integration/workers/executors/",),
    ("tests/integration/shards/broker_access/",),
    # These tests use shards of the type general.
    tuple(f"tests/lxc/test_{name}.py" for name in ("isolation", "journey", "sharing")),
    ("tests/lxc/test_ansible.py",),
    ("tests/lxc/test_proxmox_journey.py",),
    # These tests build templates of several types.
    tuple(f"tests/lxc/test_{name}.py" for name in ("types", "pools")),
    # These tests need the same lock of the machine.
    ("tests/lxc/",),
    # The slowest files are first. Each waits for leases and outages of its own stack.
    *(
        (f"tests/faults/test_{name}.py",)
        for name in ("processes", "broker", "full_home", "random_faults", "cut_network", "lost_runners")
    ),
)


def group_of(node_id: str) -> str:
    """Return the name of the group of a test."""
    file = node_id.partition("::")[0]
    at = position_of(file)
    return file if at == len(GROUPS) else " ".join(GROUPS[at])


def position_of(file: str) -> int:
    """Return the position of a file in ``GROUPS``; other files come last."""
    return next((at for at, names in enumerate(GROUPS) if any(file.startswith(name) for name in names)), len(GROUPS))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # xdist distributes the groups in the order of the workers, which must all sort alike.
    items.sort(key=lambda item: position_of(item.nodeid.partition("::")[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    from xdist.scheduler import LoadScopeScheduling  # absent without pytest-xdist

    class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            # A worker gets its next group early. A group with a single test is long, so the shortest group waits
            # behind it.
            waiting = [unit for unit in self.assigned_work.get(node, {}).values() if not all(unit.values())]
            if self.workqueue and any(len(unit) == 1 for unit in waiting):
                self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
            super()._assign_work_unit(node)

    config.option.loadscopereorder = False
    return GroupScheduling(config, log)
