"""Text of a container's LXC configuration."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from myctobot.errors import InvalidRequest
from shards.providers.base import ContainerSpec
from shards.providers.lxc.config import ControlGroups, check_spec, render
from shards.providers.lxc.host import LxcHost

HOST = LxcHost(Path("/srv/lxc"), "us", "mctb0", IPv4Network("10.213.0.0/24"), first_id=1_000_000)
SPEC = ContainerSpec("alpha", image="general", cpus=0.5, memory_mb=512, disk_mb=1024, processes=300)
FIRST = ControlGroups(1, swap=True)


def text(spec: ContainerSpec = SPEC, groups: ControlGroups = FIRST, **environment: str) -> list[str]:
    return render(HOST, HOST.slot(12), spec, "/srv/lxc/x/rootfs", groups, environment).splitlines()


@pytest.mark.parametrize(
    "line",
    [
        "lxc.uts.name = alpha",
        "lxc.rootfs.path = dir:/srv/lxc/x/rootfs",
        "lxc.idmap = u 0 1786432 65536",
        "lxc.idmap = g 0 1786432 65536",
        "lxc.net.0.link = mctb0",
        "lxc.net.0.veth.pair = mctb0-12",
        "lxc.net.0.hwaddr = 02:6d:0a:d5:00:0c",
        "lxc.net.0.ipv4.address = 10.213.0.12/24",
        "lxc.net.0.ipv4.gateway = 10.213.0.1",
        "lxc.cap.drop = mac_admin mac_override sys_time sys_module sys_rawio",
        "lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp",
    ],
)
def test_it_says_who_the_container_is(line: str) -> None:
    assert line in text()


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (
            FIRST,
            ["memory.limit_in_bytes = 536870912", "memory.memsw.limit_in_bytes = 536870912",
             "cpu.cfs_period_us = 100000", "cpu.cfs_quota_us = 50000", "pids.max = 300"],
        ),
        (
            ControlGroups(1, swap=False),
            ["memory.limit_in_bytes = 536870912", "cpu.cfs_period_us = 100000", "cpu.cfs_quota_us = 50000",
             "pids.max = 300"],
        ),
        (
            ControlGroups(2, swap=True),
            ["memory.max = 536870912", "memory.swap.max = 0", "cpu.max = 50000 100000", "pids.max = 300"],
        ),
    ],
)  # fmt: skip
def test_limits_are_written_for_the_control_groups_that_the_host_has(
    groups: ControlGroups, expected: list[str]
) -> None:
    prefix = "lxc.cgroup." if groups.version == 1 else "lxc.cgroup2."
    assert [line.removeprefix(prefix) for line in text(groups=groups) if line.startswith("lxc.cgroup")] == expected


def test_variables_are_one_quoted_line_each() -> None:
    lines = [line for line in text(B=' "two" words ', A="") if "environment" in line]
    assert lines == ['lxc.environment = "A="', 'lxc.environment = "B= "two" words "']


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "../etc"), ("name", "alpha\nlxc.hook.start = x"), ("name", ""), ("cpus", 0), ("cpus", -1),
        ("cpus", float("nan")), ("memory_mb", 1), ("disk_mb", 0), ("processes", 1), ("environment", {"A": "x\ny"}),
        ("environment", {"A\n": "x"}),
    ],
)  # fmt: skip
def test_an_invalid_specification_is_refused_by_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_spec(replace(SPEC, **{field: value}))  # type: ignore[arg-type]  # that is what is tried
    assert list(caught.value.fields) == [field]


def test_a_refused_variable_does_not_say_its_value() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_spec(replace(SPEC, environment={"TOKEN": "secret\n"}))
    assert "secret" not in str(caught.value.fields)
    assert "TOKEN" in str(caught.value.fields)
