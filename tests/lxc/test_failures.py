"""A create that fails leaves nothing, and one that was killed leaves nothing that is in anybody's way."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from shards.providers.base import CLEAN, ContainerState
from shards.providers.errors import OutOfRoom, ProviderBusy, ProviderError
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider
from shards.providers.lxc.storage import unmount_below
from tests.fixtures.provider_contract import Notes

from .conftest import running, spec


@dataclass
class At(Notes):
    """Does something when a step begins that has a word in it."""

    word: str = ""
    act: Callable[[], None] = lambda: None

    def step(self, text: str) -> None:
        if self.word in text:
            self.act()


def left_over(host: Host) -> list[str]:
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{host.path}/cont" in line]
    looped = [line for line in run("losetup", "--all").splitlines() if str(host.path) in line]
    return [*mounted, *looped, *map(str, (host.path / "containers").glob("*"))]


@pytest.fixture
def small(host: Host, tmp_path: Path) -> Iterator[Host]:
    """The same templates, on a file system of 300 MB."""
    folder = host.path / "small"
    folder.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=300m,mode=711", "tmpfs", str(folder))
    (folder / "templates").symlink_to(host.path / "templates")
    yield replace(host, path=folder)
    unmount_below(host.path)
    folder.rmdir()


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))


def test_a_template_that_is_not_there_is_named(maker: LxcProvider) -> None:
    for image in ("nothing", "", "../templates/bare", ".bare"):
        with pytest.raises(ProviderError, match="known: bare"):
            maker.create(spec(image=image), Notes())
    assert left_over(maker.host) == []


def test_a_disk_that_could_not_be_filled_is_refused(small: Host) -> None:
    with pytest.raises(OutOfRoom, match="MB free"):
        LxcProvider(small).create(spec(disk_mb=512), Notes())


@pytest.mark.parametrize("word", ["make a disk", "snapshot"])
def test_a_full_file_system_leaves_nothing(small: Host, word: str) -> None:
    maker = LxcProvider(small)
    with pytest.raises(OutOfRoom):
        maker.create(spec(disk_mb=200), At(word=word, act=lambda: fill(small.path)))
    assert left_over(small) == []
    (small.path / "filler").unlink()
    ref = maker.create(spec(disk_mb=200), Notes())
    maker.destroy(ref, Notes())


def test_no_address_is_left(maker: LxcProvider) -> None:
    tiny = LxcProvider(replace(maker.host, network=IPv4Network("10.214.0.0/29")))
    for number in range(5):
        tiny.create(spec(f"shard-{number}", disk_mb=64), Notes())
    with pytest.raises(OutOfRoom, match="addresses"):
        tiny.create(spec("one-more", disk_mb=64), Notes())
    assert len(tiny.list()) == 5


def killed_at(maker: LxcProvider, word: str) -> None:
    """Another process begins to make ``alpha`` and is killed."""
    child = os.fork()
    if child == 0:
        maker.create(spec(), At(word=word, act=lambda: os.kill(os.getpid(), signal.SIGKILL)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("word", ["make a disk", "snapshot"])
def test_a_killed_one_is_seen_and_replaced_by_the_next_of_its_name(maker: LxcProvider, word: str) -> None:
    killed_at(maker, word)
    (half,) = maker.list()
    assert (half.name, half.state) == ("alpha", ContainerState.OTHER)
    for call in (maker.start, maker.stop):
        with pytest.raises(ProviderError, match="half made"):
            call(half.ref, Notes())
    ref = maker.create(spec(), Notes())
    assert [one.ref for one in maker.list()] == [ref]
    assert maker.status(half.ref).state is ContainerState.GONE
    maker.start(ref, Notes())
    maker.destroy(ref, Notes())
    assert left_over(maker.host) == []


def test_a_killed_one_can_be_destroyed(maker: LxcProvider) -> None:
    killed_at(maker, "snapshot")
    (half,) = maker.list()
    maker.destroy(half.ref, Notes())
    assert left_over(maker.host) == []


def test_what_a_killed_destroy_left_goes_with_the_next_create(maker: LxcProvider) -> None:
    half = maker.host.path / "containers" / ".removed.alpha.0123ab"
    half.mkdir(parents=True)
    (half / "disk.img").write_bytes(b"x")
    maker.create(spec(), Notes())
    assert not half.exists()


def test_two_at_a_time_never_get_the_same_address_or_name(maker: LxcProvider) -> None:
    with ThreadPoolExecutor(6) as pool:
        names = [f"shard-{number % 6}" for number in range(12)]

        def create(name: str) -> str | None:
            try:
                return maker.create(spec(name, disk_mb=64), Notes())
            except ProviderError:
                return None

        made = [ref for ref in pool.map(create, names) if ref]
    assert sorted(ref.partition(".")[0] for ref in made) == sorted(set(names))
    assert len({maker.status(ref).address for ref in made}) == 6


def test_while_one_change_is_under_way_another_has_to_wait(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    with (maker.host.path / "containers" / ref / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for call in (maker.stop, maker.destroy, maker.start):
            with pytest.raises(ProviderBusy):
                call(ref, Notes())
        with pytest.raises(ProviderBusy):
            maker.restore(ref, CLEAN, Notes())
        assert maker.status(ref).state is ContainerState.RUNNING


def test_a_start_that_fails_says_why_and_may_be_tried_again(maker: LxcProvider) -> None:
    ref = maker.create(spec(), Notes())
    run("ip", "link", "set", maker.host.bridge, "name", "elsewhere")
    try:
        with pytest.raises(ProviderError, match="lxc-start failed"):
            maker.start(ref, Notes())
    finally:
        run("ip", "link", "set", "elsewhere", "name", maker.host.bridge)
    assert maker.status(ref).state is ContainerState.STOPPED
    maker.start(ref, Notes())
