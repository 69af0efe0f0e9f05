from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.fixtures.waiting_child import waiting_child
from workers.git import object_cache
from workers.git.object_cache import MB, DamagedObjects, KeptEntry, KeptObjects, ObjectCache, choose_removal

TIP = "a" * 40
URL = "https://git.example.com/a/b.git"


@pytest.fixture(autouse=True)
def room_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tests work on a machine with a full disk."""
    monkeypatch.setattr(object_cache, "FREE_BYTES", 0)


def packs(folder: Path, number: int = 1, size: int = 1000) -> Path:
    """Write one pack with its index into a new folder."""
    folder = folder / f"packs-{number}-{size}"
    folder.mkdir()
    for suffix in ("pack", "idx"):
        (folder / f"pack-{number:040x}.{suffix}").write_bytes(bytes([number]) * (size // 2))
    return folder


def filled(
    cache: ObjectCache, folder: Path, repository: str, number: int, size: int = 1000, tenant: str = "acme"
) -> Path:
    """Keep one pack of a repository, and return the folder."""
    kept = cache.open(tenant, repository)
    assert kept.keep(packs(folder, number, size), [TIP], "sha1")
    kept.close()
    return kept.folder


def names(kept: KeptObjects) -> list[str]:
    return sorted(file.name for file in (kept.objects / "pack").iterdir())


def test_packs_are_found_again_with_their_commits(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    filled(cache, tmp_path, URL, 1)
    kept = cache.open("acme", URL)
    manifest = kept.verify()
    assert manifest is not None
    assert (manifest.object_format, manifest.tips, manifest.size) == ("sha1", [TIP], 1000)
    assert names(kept) == [f"pack-{1:040x}.idx", f"pack-{1:040x}.pack"]


def test_packs_of_a_later_job_are_added(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    filled(cache, tmp_path, URL, 1)
    kept = cache.open("acme", URL)
    assert kept.keep(packs(tmp_path, 2), ["b" * 40, TIP], "sha1")
    manifest = kept.verify()
    assert manifest is not None
    assert (manifest.tips, len(manifest.files)) == (["b" * 40, TIP], 4)


@pytest.mark.parametrize(
    ("tenant", "repository"),
    [("other", URL), ("acme", URL + "x"), ("acme https://git.example.com/a", "/b.git"), ("", "acme " + URL)],
)
def test_another_tenant_or_repository_gets_nothing(tmp_path: Path, tenant: str, repository: str) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    filled(cache, tmp_path, URL, 1)
    kept = cache.open(tenant, repository)
    assert kept.verify() is None
    assert names(kept) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "manifest"])
def test_damage_is_found(tmp_path: Path, damage: str) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    folder = filled(cache, tmp_path, URL, 1)
    pack = folder / "objects" / "pack" / f"pack-{1:040x}.pack"
    pack.chmod(0o600)
    if damage == "cut":
        os.truncate(pack, 10)
    elif damage == "changed":
        pack.write_bytes(bytes(500))
    elif damage == "missing":
        pack.unlink()
    else:
        (folder / "manifest.json").write_text('{"files": {"../../x": [1, ""]}, "tips": [], "format": "sha1"}')
    kept = cache.open("acme", URL)
    with pytest.raises(DamagedObjects):
        kept.verify()
    renewed = kept.renew()
    assert renewed is not None
    assert renewed.verify() is None
    assert names(renewed) == []


def test_a_process_that_is_just_starting_does_not_keep_damaged_objects(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    filled(cache, tmp_path, URL, 1)
    kept = cache.open("acme", URL)
    with waiting_child():
        assert kept.renew() is not None


def test_the_least_recently_used_repository_makes_room(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 3)
    old, newer = (filled(cache, tmp_path, name, number, MB) for number, name in enumerate(("old", "newer"), 1))
    os.utime(newer, (1_900_000_000, 1_900_000_000))
    used = cache.open("acme", "old")
    used.verify()
    used.close()
    os.utime(old, (1_900_000_001, 1_900_000_001))
    filled(cache, tmp_path, "third", 3, 2 * MB)
    assert old.exists()
    assert not newer.exists()


def test_a_tenant_with_many_repositories_takes_no_room_from_others(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    small = filled(cache, tmp_path, URL, 1, 2 * MB, tenant="small")
    os.utime(small, (time.time() - 1000, time.time() - 1000))
    large = [filled(cache, tmp_path, f"large-{number}", number, 2 * MB, tenant="large") for number in range(2, 9)]
    assert small.exists()
    assert [folder.exists() for folder in large] == [False] * 3 + [True] * 4


def test_a_tenant_that_uses_little_gets_room_from_the_one_that_uses_most(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    other = filled(cache, tmp_path, "other", 1, 3 * MB, tenant="other")
    os.utime(other, (time.time() - 1000, time.time() - 1000))
    large = [filled(cache, tmp_path, f"large-{number}", number, 2 * MB, tenant="large") for number in range(2, 5)]
    filled(cache, tmp_path, URL, 9, 2 * MB, tenant="small")
    assert other.exists()
    assert [folder.exists() for folder in large] == [False, True, True]


def test_a_single_repository_takes_no_room_from_tenants_that_use_less(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    small = filled(cache, tmp_path, URL, 1, 2 * MB, tenant="small")
    kept = cache.open("large", "large")
    assert not kept.keep(packs(tmp_path, 2, 9 * MB), [TIP], "sha1")
    assert small.exists()
    assert kept.keep(packs(tmp_path, 3, 8 * MB), [TIP], "sha1")


ENTRIES = [
    KeptEntry(Path("a1"), 1, 10, "a"),
    KeptEntry(Path("a2"), 2, 10, "a"),
    KeptEntry(Path("b1"), 0, 15, "b"),
    KeptEntry(Path("old"), 3, 1, ""),
]


@pytest.mark.parametrize(
    ("needed", "owner", "fixed", "removed"),
    [
        pytest.param(0, "new", [], "a1", id="the tenant that uses most"),
        pytest.param(0, "new", ["a1"], "a2", id="its next one"),
        pytest.param(0, "new", ["a1", "a2"], "b1", id="the next tenant"),
        pytest.param(6, "b", [], "b1", id="what is added counts"),
        pytest.param(6, "b", ["b1"], None, id="no one with less gives room"),
        pytest.param(5, "b", ["b1"], None, id="nor one with as much"),
        pytest.param(4, "b", ["b1"], "a1", id="one with more does"),
        pytest.param(1, "new", [], "a1", id="a new tenant"),
        pytest.param(30, "new", [], None, id="a new tenant that wants most"),
    ],
)
def test_the_tenant_that_uses_most_makes_room(needed: int, owner: str, fixed: list[str], removed: str | None) -> None:
    chosen = choose_removal(ENTRIES, needed, owner, {Path(name) for name in fixed})
    assert (chosen.folder.name if chosen else None) == removed


def test_objects_of_an_earlier_release_get_their_tenant_at_the_next_use(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    folder = filled(cache, tmp_path, URL, 1)
    (folder / "tenant").unlink()
    cache.open("acme", URL).close()
    assert len((folder / "tenant").read_text()) == 64
    assert "acme" not in (folder / "tenant").read_text()


def test_objects_in_use_are_never_removed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 3)
    folder = filled(cache, tmp_path, URL, 1, 2 * MB)
    used = cache.open("acme", URL)
    other = cache.open("acme", "other")
    assert not other.keep(packs(tmp_path, 2, 2 * MB), [TIP], "sha1")
    cache.clear()
    assert folder.exists()
    used.close()
    assert other.keep(tmp_path / f"packs-2-{2 * MB}", [TIP], "sha1")
    assert not folder.exists()


def test_a_repository_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    kept = ObjectCache(tmp_path / "cache", 1).open("acme", URL)
    assert not kept.keep(packs(tmp_path, 1, 2 * MB), [TIP], "sha1")
    assert names(kept) == []


def test_a_full_disk_is_left_to_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_cache, "FREE_BYTES", 2**63)
    monkeypatch.setattr(object_cache, "FREE_PART", 1)
    kept = ObjectCache(tmp_path / "cache", 10).open("acme", URL)
    assert not kept.keep(packs(tmp_path), [TIP], "sha1")


def test_objects_without_a_job_for_weeks_are_removed(tmp_path: Path) -> None:
    cache = ObjectCache(tmp_path / "cache", 10)
    unused = filled(cache, tmp_path, URL, 1)
    os.utime(unused, (1, 1))
    filled(cache, tmp_path, "other", 2)
    assert not unused.exists()


def test_many_packs_are_fetched_as_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_cache, "MAX_PACKS", 2)
    cache = ObjectCache(tmp_path / "cache", 10)
    for number in (1, 2):
        filled(cache, tmp_path, URL, number)
    kept = cache.open("acme", URL)
    manifest = kept.verify()
    assert manifest is not None
    assert manifest.is_crowded
    assert not kept.keep(packs(tmp_path, 3), [TIP], "sha1")


def test_half_a_file_of_a_killed_job_is_removed(tmp_path: Path) -> None:
    kept = ObjectCache(tmp_path / "cache", 10).open("acme", URL)
    (kept.objects / "pack" / "draft-1").write_text("half")
    kept.keep(packs(tmp_path), [TIP], "sha1")
    assert names(kept) == [f"pack-{1:040x}.idx", f"pack-{1:040x}.pack"]


def test_no_other_user_reaches_the_objects(tmp_path: Path) -> None:
    filled(ObjectCache(tmp_path / "cache", 10), tmp_path, URL, 1)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700
