"""Failed and killed operations: a failed create leaves nothing, and leftovers of a killed one block no later one."""

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
from shards.providers.lxc import provider
from shards.providers.lxc.commands import run
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider
from shards.providers.lxc.records import ContainerFolder, Record, read_record
from shards.providers.lxc.storage import unmount_below
from tests.fixtures.provider_contract import Notes

from .conftest import running, spec


@dataclass
class ActAtStep(Notes):
    """Journal that calls a function when a step begins whose text contains a word."""

    word: str = ""
    act: Callable[[], None] = lambda: None

    def step(self, text: str) -> None:
        if self.word in text:
            self.act()


def leftovers(host: LxcHost) -> list[str]:
    mounted = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{host.path}/cont" in line]
    looped = [line for line in run("losetup", "--all").splitlines() if str(host.path) in line]
    return [*mounted, *looped, *map(str, (host.path / "containers").glob("*"))]


@pytest.fixture
def small(host: LxcHost, tmp_path: Path) -> Iterator[LxcHost]:
    """Return a host with the same templates on a file system of 300 MB."""
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


def test_an_unknown_template_is_refused_with_the_known_ones(maker: LxcProvider) -> None:
    for image in ("nothing", "", "../templates/bare", ".bare"):
        with pytest.raises(ProviderError, match="known: bare"):
            maker.create(spec(image=image), Notes())
    assert leftovers(maker.host) == []


def test_a_disk_larger_than_the_free_space_is_refused(small: LxcHost) -> None:
    with pytest.raises(OutOfRoom, match="MB free"):
        LxcProvider(small).create(spec(disk_mb=512), Notes())


@pytest.mark.parametrize("word", ["create a disk", "snapshot"])
def test_a_create_on_a_full_file_system_leaves_nothing(small: LxcHost, word: str) -> None:
    maker = LxcProvider(small)
    with pytest.raises(OutOfRoom):
        maker.create(spec(disk_mb=200), ActAtStep(word=word, act=lambda: fill(small.path)))
    assert leftovers(small) == []
    (small.path / "filler").unlink()
    ref = maker.create(spec(disk_mb=200), Notes())
    maker.destroy(ref, Notes())


def test_create_is_refused_without_a_free_address(maker: LxcProvider) -> None:
    tiny = LxcProvider(replace(maker.host, network=IPv4Network("10.214.0.0/29")))
    for number in range(5):
        tiny.create(spec(f"shard-{number}", disk_mb=64), Notes())
    with pytest.raises(OutOfRoom, match="addresses"):
        tiny.create(spec("one-more", disk_mb=64), Notes())
    assert len(tiny.list()) == 5


def kill_create_at(maker: LxcProvider, word: str) -> None:
    """Start to create ``alpha`` in another process, and kill it at a step."""
    child = os.fork()
    if child == 0:
        maker.create(spec(), ActAtStep(word=word, act=lambda: os.kill(os.getpid(), signal.SIGKILL)))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("word", ["create a disk", "snapshot"])
def test_an_interrupted_container_is_listed_and_replaced_by_the_next_of_its_name(maker: LxcProvider, word: str) -> None:
    kill_create_at(maker, word)
    (interrupted,) = maker.list()
    assert (interrupted.name, interrupted.state) == ("alpha", ContainerState.OTHER)
    for call in (maker.start, maker.stop):
        with pytest.raises(ProviderError, match="was interrupted"):
            call(interrupted.ref, Notes())
    ref = maker.create(spec(), Notes())
    assert [one.ref for one in maker.list()] == [ref]
    assert maker.status(interrupted.ref).state is ContainerState.GONE
    maker.start(ref, Notes())
    maker.destroy(ref, Notes())
    assert leftovers(maker.host) == []


def test_an_interrupted_container_can_be_destroyed(maker: LxcProvider) -> None:
    kill_create_at(maker, "snapshot")
    (interrupted,) = maker.list()
    maker.destroy(interrupted.ref, Notes())
    assert leftovers(maker.host) == []


def test_create_removes_the_leftovers_of_a_killed_destroy(maker: LxcProvider) -> None:
    interrupted = maker.host.path / "containers" / ".removed.alpha.0123ab"
    interrupted.mkdir(parents=True)
    (interrupted / "disk.img").write_bytes(b"x")
    maker.create(spec(), Notes())
    assert not interrupted.exists()


def test_concurrent_creates_get_different_addresses_and_names(maker: LxcProvider) -> None:
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


def test_a_container_whose_creation_just_finished_is_not_removed(
    maker: LxcProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process finishes after its record was read and before its lock is taken."""
    ref = maker.create(spec(), Notes())
    reads: list[ContainerFolder] = []

    def read(place: ContainerFolder) -> Record | None:
        record = read_record(place)
        reads.append(place)
        return replace(record, made=False) if record and len(reads) == 1 else record

    monkeypatch.setattr(provider, "read_record", read)
    with pytest.raises(ProviderError, match=f"exists already: {ref}"):
        maker.create(spec(), Notes())
    assert [one.ref for one in maker.list()] == [ref]
    maker.start(ref, Notes())


def test_a_change_is_refused_while_another_one_runs(maker: LxcProvider) -> None:
    ref = running(maker, "alpha")
    with (maker.host.path / "containers" / ref / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for call in (maker.stop, maker.destroy, maker.start):
            with pytest.raises(ProviderBusy):
                call(ref, Notes())
        with pytest.raises(ProviderBusy):
            maker.restore(ref, CLEAN, Notes())
        assert maker.status(ref).state is ContainerState.RUNNING


def test_a_failed_start_reports_the_reason_and_can_be_repeated(maker: LxcProvider) -> None:
    ref = maker.create(spec(), Notes())
    run("ip", "link", "set", maker.host.bridge, "name", "elsewhere")
    try:
        with pytest.raises(ProviderError, match="lxc-start failed"):
            maker.start(ref, Notes())
    finally:
        run("ip", "link", "set", "elsewhere", "name", maker.host.bridge)
    assert maker.status(ref).state is ContainerState.STOPPED
    maker.start(ref, Notes())
