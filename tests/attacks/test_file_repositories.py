"""Tenants try to read and write repositories of the host by ``file://``, outside the folders that are open for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.models import Job
from tests.factories.control_plane import Api, error_of, make_tenant
from tests.fixtures.repos import branches, git, make_remote
from workers.errors import JobError
from workers.git.command import Git
from workers.git.local_repository import open_repository
from workers.git.policy import GitPolicy, RepoSpec
from workers.git.remote import RemoteRepository

BRANCH = "feature/ai"
SECRET = {"secret.txt": "canary-of-another-tenant\n"}


@dataclass
class Place:
    """Open folder ``repos`` with the repository ``own.git``, and a private repository outside."""

    root: Path
    own: Path
    private: Path
    work: Path

    @property
    def inside(self) -> Path:
        return self.root / "repos"

    def remote(self, path: str, roots: tuple[str, ...] | None = None) -> RemoteRepository:
        """Return the runner's view of a repository with this path below the place, as it is written in the URL."""
        policy = GitPolicy(file_roots=(str(self.inside),) if roots is None else roots)
        spec = RepoSpec(f"file://{self.root}/{path}", "main", BRANCH, None)
        return RemoteRepository(spec, policy, self.work / "clean.git", Git(home=self.work / "home"))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "repos").mkdir()
    own = make_remote(tmp_path / "repos" / "own.git")
    private = make_remote(tmp_path / "private" / "private.git", SECRET)
    git(private, "gc", "--quiet")
    work = tmp_path / "runner"
    (work / "home").mkdir(parents=True)
    git(work, "clone", "--quiet", "--bare", str(own), "clean.git")
    return Place(tmp_path, own, private, work)


async def ignore(line: str) -> None:
    """Drop a line of git."""


# --- Repositories and links that lead out of the folder ----------------------------------------------

Arrange = Callable[[Place], str]


def linked_repository(place: Place) -> str:
    (place.inside / "link.git").symlink_to(place.private)
    return "repos/link.git"


def linked_relative(place: Place) -> str:
    (place.inside / "link.git").symlink_to("../private/private.git")
    return "repos/link.git"


def linked_parent(place: Place) -> str:
    (place.inside / "team").symlink_to(place.private.parent)
    return "repos/team/private.git"


def linked_root(place: Place) -> str:
    place.inside.rename(place.root / "moved")
    place.inside.symlink_to(place.private.parent)
    return "repos/private.git"


def link_that_only_git_would_try(place: Place) -> str:
    (place.inside / "name").mkdir()
    (place.inside / "name.git").symlink_to(place.private)
    return "repos/name"


def git_file(place: Place) -> str:
    (place.inside / "tree").mkdir()
    (place.inside / "tree" / ".git").write_text(f"gitdir: {place.private}\n")
    return "repos/tree"


def git_file_in_a_bare_repository(place: Place) -> str:
    (place.own / ".git").write_text(f"gitdir: {place.private}\n")
    return "repos/own.git"


def linked_git_folder(place: Place) -> str:
    (place.inside / "tree").mkdir()
    (place.inside / "tree" / ".git").symlink_to(place.private)
    return "repos/tree"


def git_file_in_a_git_folder(place: Place) -> str:
    (place.inside / "tree").mkdir()
    place.own.rename(place.inside / "tree" / ".git")
    (place.inside / "tree" / ".git" / ".git").write_text(f"gitdir: {place.private}\n")
    return "repos/tree"


def worktree_of_another(place: Place) -> str:
    (place.own / "commondir").write_text(f"{place.private}\n")
    return "repos/own.git"


def borrowed_objects(place: Place) -> str:
    (place.own / "objects" / "info" / "alternates").write_text(f"{place.private}/objects\n")
    (place.own / "refs" / "heads" / "stolen").write_text(branches(place.private)["main"] + "\n")
    return "repos/own.git"


def linked(name: str) -> Arrange:
    def arrange(place: Place) -> str:
        target = place.own / name
        if target.is_dir():
            target.rename(place.root / "old")
        else:
            target.unlink(missing_ok=True)
        target.symlink_to(place.private / name)
        return "repos/own.git"

    return arrange


def linked_log(place: Place) -> str:
    (place.own / "logs" / "refs" / "heads" / "feature").mkdir(parents=True)
    (place.own / "logs" / "refs" / "heads" / "feature" / "ai").symlink_to(place.private / "config")
    return "repos/own.git"


def linked_pack(place: Place) -> str:
    for pack in (place.private / "objects" / "pack").iterdir():
        (place.own / "objects" / "pack" / pack.name).symlink_to(pack)
    return "repos/own.git"


PLANTED = [
    linked_repository, linked_relative, linked_parent, linked_root, link_that_only_git_would_try, git_file,
    git_file_in_a_bare_repository, linked_git_folder, git_file_in_a_git_folder, worktree_of_another, borrowed_objects,
    linked_log, linked_pack,
]  # fmt: skip
LINKS = ["objects", "refs", "HEAD", "packed-refs", "config", "refs/heads", "objects/info", "objects/pack"]
PATHS = [
    "private/private.git",
    "repos/../private/private.git",
    "repos/%2e%2e/private/private.git",
    "repos/own.git/%2E%2E/%2e%2e/private/private.git",
    "repos%2f..%2fprivate%2fprivate.git",
    "repos/%252e%252e/private/private.git",
    "repos-private/private.git",
    "repos",
    "repos/",
    "repos/.",
    "repos//own.git",
    "repos/own.git%00/../../private/private.git",
    "repos/own.git%0a",
]


async def refused(remote: RemoteRepository) -> str:
    """Check that neither a read nor a write of the repository is possible; return the code of the refusal."""
    codes = set()
    for call in (
        lambda: remote.list(["main"]),
        lambda: remote.fetch(["main"], ignore),
        lambda: remote.push("refs/heads/main", BRANCH, ignore),
    ):
        with pytest.raises(JobError) as caught:
            await call()
        codes.add(caught.value.code)
    (code,) = codes
    return str(code)


@pytest.mark.anyio
@pytest.mark.parametrize("arrange", PLANTED, ids=lambda arrange: arrange.__name__)
async def test_a_shard_opens_no_repository_that_leads_elsewhere(place: Place, arrange: Arrange) -> None:
    before = everything_in(place.private)
    expected = "repo_not_found" if arrange is link_that_only_git_would_try else "repo_folder_refused"
    assert await refused(place.remote(arrange(place))) == expected
    assert everything_in(place.private) == before


@pytest.mark.anyio
@pytest.mark.parametrize("name", LINKS)
async def test_a_shard_follows_no_link_in_a_repository(place: Place, name: str) -> None:
    before = everything_in(place.private)
    assert await refused(place.remote(linked(name)(place))) == "repo_folder_refused"
    assert everything_in(place.private) == before


@pytest.mark.anyio
@pytest.mark.parametrize("path", PATHS)
async def test_a_shard_opens_no_path_outside_its_folders(place: Place, path: str) -> None:
    make_remote(place.root / "repos-private" / "private.git", SECRET)
    make_remote(place.root / "repos.git", SECRET)
    before = everything_in(place.root)
    assert await refused(place.remote(path)) in ("repo_folder_refused", "repo_not_found")
    assert everything_in(place.root) == before


def everything_in(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, without the runner's own."""
    found = {}
    for where, _, names in os.walk(folder):
        for name in names:
            path = Path(where, name)
            if "runner" not in path.parts and not path.is_symlink():
                found[str(path)] = path.read_bytes()
    return found


@pytest.mark.anyio
async def test_without_an_open_folder_a_shard_opens_nothing(place: Place) -> None:
    assert await refused(place.remote("repos/own.git", roots=())) == "repo_folder_refused"


@pytest.mark.anyio
async def test_a_repository_in_the_folder_can_be_read_and_written(place: Place) -> None:
    remote = place.remote("repos/own.git")
    assert (await remote.list(["main"])).branches == branches(place.own)
    await remote.push("refs/heads/main", BRANCH, ignore)
    assert branches(place.own)[BRANCH] == branches(place.own)["main"]


@pytest.mark.anyio
async def test_a_link_to_shared_hooks_is_harmless(place: Place) -> None:
    hooks = place.root / "hooks"
    (place.own / "hooks").rename(hooks)
    (hooks / "pre-receive").write_text(f"#!/bin/sh\ntouch {place.root}/hook-ran\n")
    (hooks / "pre-receive").chmod(0o755)
    (place.own / "hooks").symlink_to(hooks)
    await place.remote("repos/own.git").push("refs/heads/main", BRANCH, ignore)
    assert BRANCH in branches(place.own)
    assert not (place.root / "hook-ran").exists()


@pytest.mark.anyio
async def test_a_link_that_replaces_the_folder_after_the_check_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacker wins the race: the repository is replaced between the check and the start of git."""

    def check_then_lose(url: str, roots: tuple[str, ...]) -> int:
        opened = open_repository(url, roots)
        place.own.rename(place.root / "moved.git")
        place.own.symlink_to(place.private)
        return opened

    expected = branches(place.own)
    monkeypatch.setattr("workers.git.credentials.open_repository", check_then_lose)
    assert (await place.remote("repos/own.git").list(["main"])).branches == expected
    assert expected["main"] != branches(place.private)["main"]


# --- The submit --------------------------------------------------------------------------------------


def submit(path: str) -> Any:
    body = {"task": {"type": "prompt", "prompt": "x", "repo_url": f"file://{path}"}, "capabilities": ["git"]}
    return Api.of(make_tenant()).post("/jobs", body)


@pytest.mark.django_db
@pytest.mark.parametrize("path", [path for path in PATHS if "%25" not in path])
def test_a_submit_outside_the_folders_is_refused(place: Place, settings: Any, path: str) -> None:
    settings.REPO_FILE_ROOTS = [str(place.inside)]
    answer = submit(f"{place.root}/{path}")
    assert (answer.status_code, list(error_of(answer)["fields"])) == (400, ["task.repo_url"])
    assert not Job.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("arrange", [linked_repository, linked_relative, linked_parent, linked_root])
def test_a_submit_through_a_link_is_refused(place: Place, settings: Any, arrange: Arrange) -> None:
    settings.REPO_FILE_ROOTS = [str(place.inside)]
    answer = submit(f"{place.root}/{arrange(place)}")
    assert "symbolic link" in error_of(answer)["fields"]["task.repo_url"][0]
    assert not Job.objects.exists()


@pytest.mark.django_db
def test_a_submit_needs_an_open_folder_and_does_not_say_what_exists(place: Place, settings: Any) -> None:
    settings.REPO_FILE_ROOTS = [str(place.inside)]
    make_tenant("rival")
    api = Api.of(make_tenant())
    body: dict[str, Any] = {"task": {"type": "prompt", "prompt": "x"}, "capabilities": ["git"]}

    def answer(path: Path) -> Any:
        return api.post("/jobs", {**body, "task": {**body["task"], "repo_url": f"file://{path}"}})

    assert error_of(answer(place.private)) == error_of(answer(place.root / "missing.git"))
    assert "outside the folders" in error_of(answer(place.private))["message"]
    assert answer(place.inside / "missing.git").json()["error"]["code"] == "no_eligible_shard"
    settings.REPO_FILE_ROOTS = []
    assert "allowed here: https, ssh" in error_of(answer(place.own))["message"]
