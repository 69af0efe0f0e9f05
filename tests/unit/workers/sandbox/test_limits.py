from __future__ import annotations

from pathlib import Path

import pytest

from workers.sandbox.limits import Groups, ResourceLimits, group_bases, own_groups

V1_MOUNTS = """\
30 25 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
33 25 0:29 / /proc rw - proc proc rw
"""
V2_MOUNTS = "30 25 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
CONTAINER_MOUNTS = "30 25 0:26 /lxc/web /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "expected"),
    [
        (
            "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n",
            V1_MOUNTS,
            {
                "memory": "/sys/fs/cgroup/memory/a/b",
                "cpu": "/sys/fs/cgroup/cpu,cpuacct",
                "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
                "": "/sys/fs/cgroup/unified",
            },
        ),
        ("0::/system.slice/shard.service\n", V2_MOUNTS, {"": "/sys/fs/cgroup/system.slice/shard.service"}),
        ("0::/lxc/web/shard\n", CONTAINER_MOUNTS, {"": "/sys/fs/cgroup/shard"}),
        ("0::/../other\n", CONTAINER_MOUNTS, {"": "/sys/fs/cgroup"}),
        ("4:memory:/a\n", "", {}),
    ],
)
def test_own_groups(cgroup: str, mounts: str, expected: dict[str, str]) -> None:
    assert own_groups(cgroup, mounts) == {name: Path(path) for name, path in expected.items()}


@pytest.mark.parametrize(
    ("cgroup", "mounts", "expected"),
    [
        ("0::/a/shard.service/shard-worker\n", V2_MOUNTS, {"": "/sys/fs/cgroup/a/shard.service"}),
        ("0::/shard-worker\n", V2_MOUNTS, {"": "/sys/fs/cgroup"}),
        ("0::/lxc/web/shard-worker\n", CONTAINER_MOUNTS, {"": "/sys/fs/cgroup"}),
        ("0::/a/shard.service\n", V2_MOUNTS, {"": "/sys/fs/cgroup/a/shard.service"}),
        ("0::/shard-worker/other\n", V2_MOUNTS, {"": "/sys/fs/cgroup/shard-worker/other"}),
        # The top of the visible groups has this name only by chance.
        ("0::/\n", V2_MOUNTS.replace("/cgroup ", "/shard-worker "), {"": "/sys/fs/shard-worker"}),
        # Version 1 limits memory.
        (
            "4:memory:/a/shard-worker\n0::/shard-worker\n",
            V1_MOUNTS,
            {"memory": "/sys/fs/cgroup/memory/a/shard-worker", "": "/sys/fs/cgroup/unified/shard-worker"},
        ),
    ],
)
def test_groups_are_next_to_the_leaf_of_version_2(cgroup: str, mounts: str, expected: dict[str, str]) -> None:
    assert group_bases(cgroup, mounts) == {name: Path(path) for name, path in expected.items()}


def test_version_1_is_used_where_it_has_the_memory_controller(tmp_path: Path) -> None:
    own = {name: tmp_path / (name or "unified") for name in ("memory", "pids", "freezer", "")}
    for directory in own.values():
        directory.mkdir()
    groups = Groups.create("agent-1-2-x", own, ResourceLimits(memory_mb=10, processes=5))
    assert (tmp_path / "memory/agent-1-2-x/memory.limit_in_bytes").read_text() == str(10 * 2**20)
    assert (tmp_path / "pids/agent-1-2-x/pids.max").read_text() == "7"
    assert groups.limits_memory
    assert groups.can_freeze
    assert not (tmp_path / "unified/agent-1-2-x").exists()


def test_version_2_is_used_otherwise(tmp_path: Path) -> None:
    groups = Groups.create("agent-1-2-x", {"": tmp_path}, ResourceLimits(memory_mb=10))
    assert (tmp_path / "agent-1-2-x/memory.max").read_text() == str(10 * 2**20)
    (tmp_path / "agent-1-2-x/memory.events").write_text("low 0\noom 3\noom_kill 2\n")
    assert groups.memory_kills() == 2


def test_without_a_writable_hierarchy_nothing_is_limited(tmp_path: Path) -> None:
    groups = Groups.create("agent-1-2-x", {"": tmp_path / "missing"}, ResourceLimits())
    assert not groups
    assert not groups.limits_memory
    assert not groups.can_freeze
    assert groups.remove()
