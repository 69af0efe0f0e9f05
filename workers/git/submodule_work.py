"""Work of an agent inside submodules. It has no place in a push, and it is kept as commits of the job's repository.

Each such line has two or more commits on top of the start: the first has the old contents of the changed files in place
of the submodule, and the others have the new ones. So it needs no object of a repository that others may not have.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from workers.errors import JobError
from workers.git.checkout import Checkout, InnerRepository
from workers.git.path_changes import ABSENT, PathChange, parse_links, parse_raw
from workers.git.record import CheckoutRecord, text_of
from workers.git.record_scripts import (
    AS_CHECKED_OUT,
    COMMIT_ENTRIES,
    EMPTY_COMMIT,
    FOLDERS,
    LINKS,
    SIZES,
    SUBJECTS,
)
from workers.sandbox.sandbox import WORKSPACE

# Contents of all lines. More would crowd out the work that can be pushed.
MAX_BYTES: Final = 16 * 2**20
MAX_SEARCHED: Final = 100
MAX_TIPS: Final = 20
MAX_READ: Final = 500
MAX_COMPARED: Final = 2000


@dataclass(frozen=True)
class InnerLine:
    """Changes between the commits ``first`` and ``last``."""

    name: str
    first: str
    last: str


@dataclass
class InnerWork:
    """Work in all submodules of a checkout.

    Args:
        named: what is not kept, each with the reason.
        ignored: new files that git ignores.
    """

    lines: list[InnerLine] = field(default_factory=list)
    named: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Submodule:
    """Submodule in the checkout; ``base`` is the commit that its files are compared with."""

    path: str
    base: str

    @property
    def work_tree(self) -> str:
        return f"{WORKSPACE}/{self.path}"


class SubmoduleWork:
    """Search for work in the submodules of one checkout.

    Args:
        max_bytes: size of the largest set of new commits.
    """

    def __init__(self, checkout: Checkout, record: CheckoutRecord, max_bytes: int) -> None:
        self._checkout, self._record = checkout, record
        self._left = min(MAX_BYTES, max_bytes // 2)

    async def collect(
        self,
        tip: str,
        message: str,
        inner: Sequence[InnerRepository],
        copies: list[str],
        added: Mapping[str, str],
    ) -> InnerWork:
        """Commit everything new in the submodules of the commit ``tip``.

        Args:
            inner: repositories inside the workspace.
            copies: folders with copies of the job's repository, which are collected elsewhere.
            added: commits of submodules that the agent added and that others can fetch, by their paths.
        """
        found = InnerWork()
        for path, head in added.items():
            try:
                await self._search_added(_Submodule(path, head), message, inner, copies, found)
            except JobError as error:
                _name_uncommitted(path, error, found)
        if not self._record.gitlinks:
            return found
        there = parse_links(text_of(await self._record.run(LINKS, tip)))
        paths = [path for path in self._record.gitlinks if path in there]
        full, empty = await self._folders(paths)
        found.named += [f"{path} (its folder is empty now)" for path in empty if path in self._checkout.modules]
        found.named += [f"{path} (it was not searched)" for path in full[MAX_SEARCHED:]]
        searched = [(path, True) for path in full[:MAX_SEARCHED]]
        # Without a folder, the repository of a submodule can still have new commits.
        others = self._checkout.modules.keys() & self._record.gitlinks.keys() - set(full)
        searched += [(path, False) for path in sorted(others)]
        for path, has_files in searched:
            folders = _git_folders(path, self._checkout.modules.get(path), inner)
            try:
                await self._search(path, has_files, message, folders, copies, found)
            except JobError as error:
                _name_uncommitted(path, error, found)
        return found

    async def _search_added(
        self, one: _Submodule, message: str, inner: Sequence[InnerRepository], copies: list[str], found: InnerWork
    ) -> None:
        self._record.borrow(f"{folder}/objects" for folder in _git_folders(one.path, None, inner))
        files = await self._commit_files(one, one.base, message, copies, found)
        if files is not None:
            same = await self._as_checked_out(one, one.base, files)
            await self._keep(one, f"files of the submodule {one.path}", [files], same, message, found)

    async def _search(
        self,
        path: str,
        has_files: bool,
        message: str,
        folders: Sequence[str],
        copies: list[str],
        found: InnerWork,
    ) -> None:
        is_fetched = path in self._checkout.modules
        base = self._record.gitlinks[path]
        if not is_fetched:
            base = text_of(await self._record.run(EMPTY_COMMIT)).strip()
        head, tips = await self._tips(base, folders, message)
        known = await self._record.fetched([*tips, *([head] if head else [])])
        if head in known and is_fetched:
            # Another commit that the server has; the link to it is named elsewhere.
            base = head
        one = _Submodule(path, base)
        new = {sha: name for sha, name in tips.items() if sha not in known and sha != head}
        chain = [head] if head is not None and head not in known else []
        same: frozenset[str] = frozenset()
        if has_files:
            parent = chain[0] if chain else base
            files = await self._commit_files(one, parent, message, copies, found)
            if files is not None:
                chain.append(files)
                same = await self._as_checked_out(one, parent, files)
        found.named += [f"{name} of the submodule {path} (not searched)" for name in list(new.values())[MAX_TIPS:]]
        await self._keep(one, f"files of the submodule {path}", chain, same, message, found)
        for sha, name in list(new.items())[:MAX_TIPS]:
            await self._keep(one, f"{name} of the submodule {path}", [sha], frozenset(), message, found)

    async def _commit_files(
        self, one: _Submodule, parent: str, message: str, copies: list[str], found: InnerWork
    ) -> str | None:
        path = one.path
        below = [copy.removeprefix(f"{path}/") for copy in copies if copy.startswith(f"{path}/")]
        # Submodules inside it are not fetched, so what is in their folders are plain files.
        links = parse_links(text_of(await self._record.run(LINKS, parent)))
        full, _ = await self._folders([f"{path}/{link}" for link in links])
        added = [link.removeprefix(f"{path}/") for link in full[:MAX_SEARCHED]]
        files = await self._record.commit_files(parent, message, work_tree=one.work_tree, excluded=below, added=added)
        found.ignored += [f"{path}/{name}" for name in files.ignored]
        if any(code == "git_add_incomplete" for code, _ in files.warnings):
            found.named.append(f"some files of the submodule {path} (they could not be added)")
        return files.commit

    async def _tips(self, base: str, folders: Sequence[str], message: str) -> tuple[str | None, dict[str, str]]:
        """Return the commit of HEAD, and the names of all other commits that no other of them contains."""
        heads: list[str] = []
        names: dict[str, str] = {}
        for folder in folders:
            state = await self._checkout.read_state(folder)
            self._record.borrow([f"{folder}/objects"])
            if state.head:
                heads.append(state.head)
            for ref, sha in state.refs.items():
                if ref != "refs/stash":
                    names.setdefault(sha, ref.removeprefix("refs/heads/"))
            for sha in state.left_heads:
                names.setdefault(sha, f"detached commit {sha[:10]}")
            stashes = state.stashes or tuple(filter(None, [state.refs.get("refs/stash")]))
            for number, commit in enumerate(await self._record.unstash(stashes, message)):
                if commit:
                    names.setdefault(commit, f"stash@{{{number}}}")
        commits = await self._record.readable([*heads, *list(names)[:MAX_READ]], since=base)
        tips = {commits[sha]: name for sha, name in names.items() if sha in commits}
        found = [commits[sha] for sha in heads if sha in commits]
        # The files in the folder are those of the repository that it links to, which comes last.
        for sha in found[:-1]:
            tips.setdefault(sha, "HEAD")
        every = "\n".join({*tips, *found}).encode()
        done = await self._record.run("exec xargs -r -n 2000 git merge-base --independent", stdin=every)
        apart = set(text_of(done).split())
        return found[-1] if found else None, {sha: name for sha, name in tips.items() if sha in apart}

    async def _as_checked_out(self, one: _Submodule, parent: str, commit: str) -> frozenset[str]:
        """Return the paths that git only stores otherwise than the parent does, because attributes ask for it."""
        changes = await self._changes(parent, commit)
        paths = [change.path for change in changes.values() if change.old_mode == change.new_mode][:MAX_COMPARED]
        env = {"GIT_WORK_TREE": one.work_tree}
        done = await self._record.run(AS_CHECKED_OUT, parent, stdin=_fields(paths), env=env)
        return frozenset(text_of(done).split("\0"))

    async def _keep(
        self, one: _Submodule, name: str, chain: Sequence[str], same: frozenset[str], message: str, found: InnerWork
    ) -> None:
        """Make commits of the job's repository from the changes of a chain of commits of the submodule.

        Args:
            same: paths at which the last commit has what the one before it has.
        """
        steps = [await self._changes(one.base, tip) for tip in chain]
        if not steps:
            return
        before = steps[-2] if len(steps) > 1 else {}
        steps[-1] = {path: change for path, change in steps[-1].items() if path not in same}
        steps[-1] |= {path: before[path] for path in same if path in before}
        every = {path: change for step in steps for path, change in step.items()}
        if not every:
            return
        start = self._record.start
        old = {path: (change.old_mode, change.old) for path, change in every.items()}
        first = last = await self._commit(one, old, start, f"Contents of {one.path} before the changes")
        for tip, step in zip(chain, steps, strict=True):
            entries = old | {path: (change.new_mode, change.new) for path, change in step.items()}
            subjects = text_of(await self._record.run(SUBJECTS, one.base, tip)).strip()
            last = await self._commit(one, entries, last, subjects or message) if last else None
        if first is None or last is None:
            found.named.append(f"{name} (it could not be committed)")
            return
        sizes = text_of(await self._record.run(SIZES, start, last)).split()
        size = sum(int(number) for number in sizes if number.isdigit())
        if size > self._left:
            found.named.append(f"{name} (too large to keep)")
            return
        self._left -= size
        found.lines.append(InnerLine(name, first, last))

    async def _commit(
        self, one: _Submodule, entries: Mapping[str, tuple[str, str]], parent: str, message: str
    ) -> str | None:
        """Commit the tree of the start with these modes and objects in place of the submodule."""
        start = self._record.start
        lines = [f"0 {'0' * len(start)}\t{one.path}"]
        lines += [f"{mode} {sha}\t{one.path}/{path}" for path, (mode, sha) in entries.items() if mode != ABSENT]
        done = await self._record.run(COMMIT_ENTRIES, start, parent, message, stdin=_fields(lines))
        return text_of(done).strip() or None if done.returncode == 0 else None

    async def _changes(self, base: str, tip: str) -> dict[str, PathChange]:
        script = 'exec git diff-tree -r --raw -z --no-renames "$1" "$2" --'
        listing = text_of(await self._record.run(script, base, tip))
        return {change.path: change for change in parse_raw(listing)}

    async def _folders(self, paths: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return those of the paths that are folders, with and without anything in them."""
        if not paths:
            return [], []
        listed = text_of(await self._record.run(FOLDERS, stdin=_fields(paths))).split("\0")
        full = [item[1:] for item in listed if item.startswith("+")]
        return full, [item[1:] for item in listed if item.startswith("-")]


def _name_uncommitted(path: str, error: JobError, found: InnerWork) -> None:
    if error.code != "commit_failed":
        raise error
    found.named.append(f"files of the submodule {path} (they could not be committed)")


def _fields(items: Iterable[str]) -> bytes:
    return "".join(f"{item}\0" for item in items).encode(errors="surrogateescape")


def _git_folders(path: str, module: str | None, inner: Sequence[InnerRepository]) -> list[str]:
    """Return the folders of a submodule's repositories in the workspace; the one that its files belong to is last."""
    found = [module] if module is not None else []
    for one in inner:
        if one.path == path:
            own = f"{WORKSPACE}/{path}"
            target = one.link.removeprefix("gitdir:").strip() if one.link else ".git"
            folder = posixpath.normpath(posixpath.join(own, target))
            if folder.startswith(f"{WORKSPACE}/"):
                found = [*(other for other in found if other != folder), folder]
    return found
