"""Creation, limits of root, and removal of a container."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from myctobot.errors import InvalidRequest
from shards.providers.base import CLEAN, ContainerState
from shards.providers.errors import ProviderError
from shards.providers.lxc.commands import run
from shards.providers.lxc.layers import shown
from shards.providers.lxc.provider import LxcProvider
from shards.providers.lxc.records import ContainerFolder
from shards.providers.lxc.storage import unmount
from tests.fixtures.provider_contract import Notes

from .conftest import running, spec
from .inside import inside, output, python, ssh, wait_booted


def test_a_container_is_created_quickly_and_boots(maker: LxcProvider) -> None:
    began = time.monotonic()
    ref = maker.create(spec(), Notes())
    assert time.monotonic() - began < 2
    maker.start(ref, Notes())
    assert wait_booted(maker, ref) == "running"
    while ssh(maker, ref, "true").returncode and time.monotonic() - began < 15:
        time.sleep(0.05)
    assert ssh(maker, ref, "hostname").stdout == "alpha\n"
    assert time.monotonic() - began < 15


def test_root_of_a_container_has_an_unprivileged_user_of_its_own_on_the_host(maker: LxcProvider) -> None:
    owners = set()
    for name in ("alpha", "beta"):
        ref = running(maker, name)
        pid = int(run("lxc-info", "-n", ref, "-P", str(maker.host.path / "containers"), "-p", "-H"))
        owners.add(psutil.Process(pid).uids().real)
        assert output(maker, ref, "id", "-u") == "0"
    first, second = sorted(owners)
    assert first >= maker.host.first_id
    assert second - first >= 65536


@pytest.mark.parametrize(
    "attack",
    [
        ["sh", "-c", "echo 1 >/proc/sys/kernel/panic"],
        ["sh", "-c", "echo c >/proc/sysrq-trigger"],
        ["sh", "-c", "echo 1024M >/sys/fs/cgroup/memory/memory.limit_in_bytes"],
        ["sh", "-c", "echo max >/sys/fs/cgroup/pids/pids.max"],
        ["sh", "-c", "echo 1 >/sys/fs/cgroup/devices/devices.allow"],
        ["mknod", "/root/disk", "b", "254", "0"],
        ["sh", "-c", "mount -t ext4 /dev/loop0 /mnt"],
        ["sh", "-c", "mount -o remount,rw /sys && echo 0 >/sys/kernel/mm/ksm/run"],
        ["sh", "-c", "date --set 2001-01-01"],
        ["sh", "-c", "dmesg -c"],
        ["sh", "-c", "cat /proc/1/root/etc/shadow /proc/kcore >/dev/null"],
        ["chroot", "/proc/1/root/../../..", "test", "-e", "/var/tmp"],
    ],
)
def test_root_of_a_container_cannot_change_the_host(maker: LxcProvider, attack: list[str]) -> None:
    ref = running(maker, "alpha")
    before = Path("/proc/sys/kernel/panic").read_text()
    done = inside(maker, ref, *attack)
    if attack[0] == "chroot":
        # The path leads to the container's own root, where /var/tmp is empty.
        assert inside(maker, ref, "ls", "-A", "/proc/1/root/var/tmp").stdout.count("myctobot-lxc") == 0
    else:
        assert done.returncode != 0
    assert Path("/proc/sys/kernel/panic").read_text() == before


def test_changes_in_a_container_stay_in_it(maker: LxcProvider) -> None:
    alpha, beta = running(maker, "alpha"), running(maker, "beta")
    output(maker, alpha, "sh", "-c", "echo changed >/etc/debian_version; rm -r /usr/share/doc")
    assert output(maker, beta, "cat", "/etc/debian_version").startswith("12")
    with shown(maker.host.path / "templates/bare") as root:
        assert (root / "usr/share/doc").is_dir()


def test_the_sandbox_of_agents_works_in_a_container(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    sandbox = ("bwrap", "--unshare-all", "--uid", "64600", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev")
    assert output(maker, ref, *sandbox, "sh", "-c", "id -u; ls -d /proc/[0-9]* | wc -l").split()[0] == "64600"


def test_a_container_starts_again_after_a_reboot_of_the_host(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    output(maker, ref, "sh", "-c", "echo kept >/root/kept; sync")
    # A reboot of the host ends all processes and mounts.
    run("lxc-stop", "-n", ref, "-P", str(maker.host.path / "containers"), "-k")
    unmount(ContainerFolder(maker.host.path / "containers" / ref))
    assert maker.status(ref).state is ContainerState.STOPPED
    maker.start(ref, Notes())
    assert output(maker, ref, "cat", "/root/kept") == "kept"


def test_a_container_can_power_itself_off_and_start_again(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    wait_booted(maker, ref)
    inside(maker, ref, "systemctl", "poweroff")
    deadline = time.monotonic() + 15
    while maker.status(ref).state is not ContainerState.STOPPED and time.monotonic() < deadline:
        time.sleep(0.1)
    maker.start(ref, Notes())
    assert maker.status(ref).state is ContainerState.RUNNING


def test_a_destroyed_container_leaves_nothing(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    maker.snapshot(ref, "work", Notes())
    veth = maker.host.slot(2).veth
    assert Path("/sys/class/net", veth).exists()
    maker.destroy(ref, Notes())
    assert str(maker.host.path / "containers") not in Path("/proc/self/mountinfo").read_text()
    assert str(maker.host.path) not in run("losetup", "--all")
    assert not Path("/sys/class/net", veth).exists()
    assert list((maker.host.path / "containers").iterdir()) == []
    assert not any(Path("/sys/fs/cgroup").glob(f"*/lxc.*{ref}*"))


def test_only_root_can_read_the_variables_of_a_container(maker: LxcProvider) -> None:
    ref = maker.create(spec(disk_mb=64, environment={"TOKEN": "a-secret-of-alpha"}), Notes())
    place = maker.host.path / "containers" / ref
    holding = [path for path in place.rglob("*") if path.is_file() and b"a-secret-of-alpha" in path.read_bytes()]
    assert [(path.name, path.stat().st_mode & 0o777) for path in holding] == [("config", 0o600)]
    maker.start(ref, Notes())
    assert "Permission denied" in python(maker, ref, "import os; os.setuid(1000); open('/proc/1/environ').read()")


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "x\nlxc.hook.pre-start = /bin/sh"), ("A", "x\r"), ("A", "x\0"), ("A=B\nlxc.x", "1"), ("", "1")],
)
def test_a_variable_cannot_add_a_line_to_the_configuration(maker: LxcProvider, name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        maker.create(spec(environment={name: value}), Notes())
    assert "environment" in caught.value.fields
    ref = maker.create(spec(), Notes())
    with pytest.raises(InvalidRequest):
        maker.set_environment(ref, {name: value})


def test_a_provider_ignores_containers_of_another_control_plane(maker: LxcProvider, stranger: LxcProvider) -> None:
    ref = running(maker, "alpha")
    assert stranger.list() == []
    assert stranger.status(ref).state is ContainerState.GONE
    for call in (stranger.start, stranger.stop, stranger.destroy):
        with pytest.raises(ProviderError, match="no container"):
            call(ref, Notes())
    with pytest.raises(ProviderError, match="no container"):
        stranger.restore(ref, CLEAN, Notes())
    assert maker.status(ref).state is ContainerState.RUNNING
