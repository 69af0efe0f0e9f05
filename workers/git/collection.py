"""Collection of everything that is new in an agent's checkout: files, branches, stashes, work trees and clones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.added_submodules import find_links
from workers.git.agent_state import AgentState
from workers.git.checkout import Checkout, InnerRepository
from workers.git.command import Git
from workers.git.lines import Line, choose, find_lines
from workers.git.names import listed, named
from workers.git.pack import import_pack
from workers.git.record import CheckoutRecord, text_of
from workers.git.record_scripts import AGENT_GIT, COMMIT_OTHER_INDEX
from workers.git.submodule_work import InnerWork, SubmoduleWork
from workers.git.tagged_objects import TaggedObject, wrap_objects
from workers.git.work_trees import MAX_TREES, WorkTree

MAX_COMMITS: Final = 20_000
MAX_TIPS: Final = 500
MAX_CLONES: Final = 10
_WORKTREE_LINK: Final = f"gitdir: {AGENT_GIT}/worktrees/"
_SUBMODULE_LINK: Final = "/modules/"

Warn = Callable[[str, str], Awaitable[None]]


@dataclass(frozen=True)
class Taken:
    """Commit to push, or None; ``left`` are the other lines of commits, and ``note`` says what else was found."""

    sha: str | None
    left: tuple[Line, ...]
    note: str


@dataclass(frozen=True)
class _Inner:
    """Repositories inside the workspace, by what happens to them."""

    # Copies of the job's own repository: their commits are collected, and they are no part of the files.
    copies: tuple[InnerRepository, ...] = ()
    # Repositories of others: their files are added.
    others: tuple[InnerRepository, ...] = ()
    # All of them, also those of submodules.
    every: tuple[InnerRepository, ...] = ()
    # Further work trees without files; their indexes are still there.
    gone: tuple[WorkTree, ...] = ()
    # Commits of added submodules that others can fetch. They stay links.
    added: dict[str, str] = field(default_factory=dict)

    @property
    def excluded(self) -> list[str]:
        return [one.path for one in self.copies if one.is_inside]


@dataclass
class _Found:
    """Commits that the agent's own refs do not name, by their name for people."""

    files: str | None = None
    extra: dict[str, str] = field(default_factory=dict)
    # Refs name these commits better, if there are any.
    undone: dict[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    unreadable: list[str] = field(default_factory=list)
    # Whether git refused files, and whether the agent's own index has other entries than at the start.
    refused: bool = False
    other_index: bool = False
    is_tree_gone: bool = False
    # Commit that is compared with the submodules, and those submodules that it has at other commits.
    tip: str = ""
    links: tuple[str, ...] = ()
    inner: InnerWork = field(default_factory=InnerWork)


class Collector:
    """Collector of an agent's work. Call ``begin`` before the agent starts, then ``commit_files`` and ``take``.

    Args:
        clean: the runner's bare repository.
        warn: receives a code and a sentence.
    """

    def __init__(
        self, checkout: Checkout, record: CheckoutRecord, git: Git, clean: Path, max_bytes: int, branch: str, warn: Warn
    ) -> None:
        self._checkout, self._record, self._git, self._clean = checkout, record, git, clean
        self._max_bytes, self._branch, self._warn = max_bytes, branch, warn
        self._submodules = SubmoduleWork(checkout, record, max_bytes)
        self._at_start = AgentState()
        self._index_at_start = ""
        self._found = _Found()
        # All lines of new commits that were imported, also if none of them may be pushed.
        self.lines: tuple[Line, ...] = ()
        # Commit to push that does not continue the start, so that it must not be pushed.
        self.rewritten: str | None = None

    async def begin(self, start: str, object_format: str) -> int:
        """Record the fresh checkout; see ``CheckoutRecord.create``."""
        count = await self._record.create(start, object_format)
        state, digest = self._checkout.read_state(AGENT_GIT), self._record.index_digest()
        self._at_start, self._index_at_start = await asyncio.gather(state, digest)
        return count

    async def commit_files(self, message: str) -> bool:
        """Commit the agent's uncommitted changes as the agent's user, and return whether there were any."""
        self._found.other_index = await self._record.index_digest() != self._index_at_start
        unfinished = await self._checkout.find_unfinished()
        for code, sentence in unfinished.warnings:
            await self._warn(code, sentence)
        inner = await self._sort_inner()
        state = await self._checkout.read_state(AGENT_GIT)
        if unfinished.undo is not None:
            before = await self._commit(message, inner, state, quiet=True)
            if before is not None:
                self._found.extra[f"files before the undo of git {unfinished.undo[0]}"] = before
            if state.head is not None:
                self._found.undone[f"commits before the undo of git {unfinished.undo[0]}"] = state.head
            await self._warn(*await self._checkout.undo(unfinished.undo))
            state = await self._checkout.read_state(AGENT_GIT)
        self._found.files = await self._commit(message, inner, state)
        await self._commit_inner(inner, message, state)
        await self._commit_staged(inner.gone, message, state)
        await self._commit_stashes(message, state)
        tip = self._found.tip
        found = await self._submodules.collect(tip, message, inner.every, inner.excluded, inner.added)
        self._found.inner = found
        self._found.ignored += tuple(found.ignored)
        return self._found.files is not None

    async def take(self, start: str, base: str) -> Taken:
        """Import all new commits into the runner's repository, and choose the line to push."""
        state = await self._checkout.read_state(AGENT_GIT)
        names = await self._named_commits(state)
        commits = await self._record.readable(list(names)[:MAX_TIPS])
        others = {sha: some[0] for sha, some in names.items() if sha not in commits}
        objects = await wrap_objects(self._record, others) if others else {}
        lost = [name for sha in others if sha not in objects for name in names[sha]] + self._found.unreadable
        if lost:
            await self._warn("commits_unreadable", f"Commits of the agent are damaged or missing: {listed(lost)}.")
        tips: dict[str, list[str]] = {}
        for sha, commit in commits.items():
            tips.setdefault(commit, []).extend(names[sha])
        parents = await self._import(tips, {start, base})
        lines = find_lines(tips, parents)
        self.lines = tuple(lines)
        inner = await self._import_inner({start, base})
        tagged = await self._import_objects(objects.values(), {start, base})
        usable = [line.sha for line in lines if await self._is_ancestor(start, line.sha)]
        head = self._found.files or commits.get(state.head or "", start)
        branch = commits.get(state.refs.get(f"refs/heads/{self._branch}", ""), start)
        choice = choose(lines, parents, head, branch, usable)
        if choice.sha is not None and not await self._is_ancestor(start, choice.sha):
            self.rewritten = choice.sha
            raise JobError(
                "history_rewritten",
                "The agent rewrote commits of others, and MyCTOBot never overwrites commits, so nothing was pushed. "
                "The work that is kept with the job has the agent's files as one commit on top of the start: check its "
                "changes in the log, then push it, or run the job again.",
            )
        await self._warn_of_left(choice.left, state)
        return Taken(choice.sha, (*choice.left, *inner, *tagged), self._note(choice.left, inner, tagged, state))

    # --- Files ---------------------------------------------------------------------------------------

    async def _commit(self, message: str, inner: _Inner, state: AgentState, *, quiet: bool = False) -> str | None:
        branch = state.refs.get(f"refs/heads/{self._branch}")
        commits = await self._record.readable([sha for sha in (state.head, branch) if sha])
        known = self._record.start
        parent = commits.get(state.head or "") or commits.get(branch or "") or known
        if parent != commits.get(state.head or "") and not quiet:
            await self._warn(
                "repository_damaged",
                "The agent removed or damaged the repository's .git; its files were compared with "
                f"{'the start of the job' if parent == known else 'the last sound commit'}.",
            )
        merged = [sha for sha in (await self._record.readable(state.merged)).values() if sha != parent]
        others = [one.path for one in inner.others]
        files = await self._record.commit_files(parent, message, merged=merged, excluded=inner.excluded, added=others)
        if not quiet:
            for code, sentence in files.warnings:
                await self._warn(code, sentence)
            self._found.ignored, self._found.links = files.ignored, files.links
            self._found.refused = any(code == "git_add_incomplete" for code, _ in files.warnings)
            self._found.tip = files.commit or parent
            shown = [path for path in others if not _is_below(path, files.ignored)]
            if shown:
                await self._warn(
                    "embedded_repository",
                    "The agent made git repositories inside the workspace. Their files are part of the work, and their "
                    f"history is not: {listed(shown)}.",
                )
        return files.commit

    async def _sort_inner(self) -> _Inner:
        every = found = await self._checkout.inner_repositories()
        added = await find_links(self._record, every)
        own = {*self._record.gitlinks, *added}
        found = [one for one in found if one.path not in own and not _is_module_below(one, own)]
        trees = await self._checkout.work_trees(AGENT_GIT)
        copies = await self._record.copies([one.path for one in found if not one.link])
        mine = [one for one in found if one.path in copies or one.link.startswith(_WORKTREE_LINK)]
        others = [one for one in found if one not in mine and one.is_inside]
        known = {one.path for one in mine}
        outside = [tree for tree in trees if tree.is_there and not tree.is_inside and tree.path not in known]
        mine += [InnerRepository(tree.path, f"{_WORKTREE_LINK}{tree.name}") for tree in outside]
        await self._record.hide_git([one.path for one in others])
        self._record.borrow([f"{one.folder}/.git/objects" for one in mine if not one.link])
        gone = tuple(tree for tree in trees if not tree.is_there)
        return _Inner(tuple(mine), tuple(others), tuple(every), gone, added)

    async def _commit_inner(self, inner: _Inner, message: str, state: AgentState) -> None:
        """Collect the commits and files of copies of the job's repository inside the workspace."""
        for one in inner.copies[:MAX_CLONES]:
            if one.link:
                head = state.refs.get(f"worktree {one.link.removeprefix(_WORKTREE_LINK)}")
            else:
                own = await self._checkout.read_state(f"{one.folder}/.git")
                head = own.head
                for name, sha in [("HEAD", own.head), *own.refs.items()]:
                    if sha:
                        self._found.extra[f"{named(name)} of {one.path}"] = sha
            commits = await self._record.readable([head] if head else [])
            if head is not None and head in commits:
                files = await self._record.commit_files(commits[head], message, work_tree=one.folder)
                if files.commit is not None:
                    self._found.extra[f"files of {one.path}"] = files.commit
        left = [one.path for one in inner.copies[MAX_CLONES:]] + [tree.path for tree in inner.gone[MAX_TREES:]]
        if left:
            await self._warn("clones_left_out", f"The agent made too many copies of the repository: {listed(left)}.")

    async def _commit_staged(self, gone: Sequence[WorkTree], message: str, state: AgentState) -> None:
        """Commit what the agent staged in work trees whose files are gone, and name these work trees."""
        if not gone:
            return
        for tree in gone[:MAX_TREES]:
            head = state.refs.get(f"worktree {tree.name}", "")
            parent = (await self._record.readable([head] if head else [])).get(head, self._record.start)
            index, text = f"{AGENT_GIT}/worktrees/{tree.name}/index", f"{message.strip()}\n".encode()
            done = await self._record.run(COMMIT_OTHER_INDEX, index, parent, stdin=text)
            if done.returncode != 0:
                self._found.unreadable.append(f"staged files of {tree.path}")
            elif staged := text_of(done).strip():
                self._found.extra[f"staged files of {tree.path}"] = staged
        if lost := [tree.path for tree in gone if not tree.lasts]:
            self._found.is_tree_gone = True
            await self._warn(
                "work_trees_gone",
                "These work trees are gone with the agent's /tmp, and their files that were not staged or committed "
                f"are lost: {listed(lost)}.",
            )

    async def _commit_stashes(self, message: str, state: AgentState) -> None:
        stashes = state.stashes or tuple(filter(None, [state.refs.get("refs/stash")]))
        for number, commit in enumerate(await self._record.unstash(stashes, message)):
            if commit:
                self._found.extra[f"stash@{{{number}}}"] = commit

    # --- Commits -------------------------------------------------------------------------------------

    async def _named_commits(self, state: AgentState) -> dict[str, list[str]]:
        """Return the names of each object that may be new."""
        found: dict[str, list[str]] = {}
        pairs = [("uncommitted files", self._found.files), ("HEAD", state.head), *self._found.extra.items()]
        pairs += [(named(name), sha) for name, sha in state.refs.items() if name != "refs/stash"]
        pairs += [*self._found.undone.items()]
        pairs += [(f"detached commit {sha[:10]}", sha) for sha in state.left_heads]
        known = {*self._at_start.refs.values(), self._record.start}
        for name, sha in pairs:
            if sha and sha not in known:
                found.setdefault(sha, []).append(name)
        return found

    async def _import(self, tips: dict[str, list[str]], known: set[str]) -> dict[str, list[str]]:
        """Import the commits and return the parents of each new one."""
        wanted = [sha for sha in tips if sha not in known]
        new = await self._record.new_commits(wanted, known) if wanted else []
        if not new:
            return {}
        pack = self._clean.parent / "agent.pack"
        try:
            with pack.open("xb") as file:
                await self._record.pack(new, known, file)
            await import_pack(self._git, self._clean, pack, new, self._max_bytes)
        finally:
            pack.unlink(missing_ok=True)
        listing = ["rev-list", "--parents", f"--max-count={MAX_COMMITS + 1}", *new, "--not", *sorted(known), "--"]
        rows = [line.split(" ") for line in (await self._git.check(listing, cwd=self._clean)).splitlines()]
        if len(rows) > MAX_COMMITS:
            raise JobError("changes_too_many", f"The agent made more than {MAX_COMMITS:,} commits; ask for fewer.")
        return {row[0]: row[1:] for row in rows}

    async def _import_inner(self, known: set[str]) -> list[Line]:
        """Import the work in submodules, and name it all."""
        found = self._found.inner
        wanted = [Line(one.last, (one.name,), one.first) for one in found.lines]
        lines, refused = await self._import_apart(wanted, known)
        found.named += refused
        names = [f"{line.names[0]} ({line.sha[:10]})" for line in lines] + found.named
        paths = [path for path in self._found.links if not any(f"submodule {path} " in name for name in names)]
        if every := [*names, *(f"{path} (at another commit)" for path in paths)]:
            await self._warn(
                "submodule_left_out",
                "Submodules are other repositories, so the agent's changes of them are not pushed. What has a "
                f"commit's name here is kept with the job: {listed(every)}.",
            )
        return lines

    async def _import_objects(self, objects: Iterable[TaggedObject], known: set[str]) -> list[Line]:
        """Import the files and folders that refs name, and name them all."""
        found = list(objects)
        lines, refused = await self._import_apart([Line(one.commit, (one.name,)) for one in found if one.commit], known)
        if found:
            names = [f"{line.names[0]} ({line.sha[:10]})" for line in lines] + refused
            names += [one.name for one in found if not one.commit]
            await self._warn(
                "objects_left_out",
                "The agent's refs name these files and folders instead of commits, and they are not pushed. What has a "
                f"commit's name here is kept with the job: {listed(names)}.",
            )
        return lines

    async def _import_apart(self, lines: Iterable[Line], known: set[str]) -> tuple[list[Line], list[str]]:
        """Import lines that are not pushed, and return them, and the names of those that cannot be kept."""
        found, refused = [], []
        for line in lines:
            try:
                await self._import({line.sha: list(line.names)}, known)
            except JobError as error:
                # What cannot be pushed must not stop what can.
                if error.code not in ("changes_invalid", "changes_too_large"):
                    raise
                refused.append(f"{line.names[0]} ({error.code})")
                continue
            found.append(line)
        self.lines += tuple(found)
        return found, refused

    async def _is_ancestor(self, older: str, newer: str) -> bool:
        result = await self._git.run(["merge-base", "--is-ancestor", older, newer], cwd=self._clean)
        return result.returncode == 0

    # --- Messages ------------------------------------------------------------------------------------

    async def _warn_of_left(self, left: Iterable[Line], state: AgentState) -> None:
        names = [f"{line.names[0]} ({line.sha[:10]})" for line in left]
        if names:
            await self._warn(
                "commits_left_out",
                "The agent left several lines of work, and one branch has room for one of them. These are not pushed, "
                f"and the log has their changes: {listed(names)}.",
            )
        at_start = self._at_start.refs
        tags = [named(name) for name, sha in state.refs.items() if _is_tag(name) and at_start.get(name) != sha]
        if tags:
            await self._warn("tags_left_out", f"The agent's tags are not pushed: {listed(tags)}.")

    def _note(self, left: Sequence[Line], inner: Sequence[Line], tagged: Sequence[Line], state: AgentState) -> str:
        if left:
            return "The agent left several lines of work, and none of them is on the job's branch"
        if inner or self._found.inner.named or self._found.links:
            return "The agent's work is inside submodules, and it is not pushed"
        if tagged:
            return "The agent's refs name files or folders instead of commits, and they are not pushed"
        if self._found.refused:
            return "The agent's files could not be added to a commit, as the warnings say"
        if self._found.is_tree_gone:
            return "The agent's work trees outside of the workspace are gone, as the warnings say"
        if self._found.ignored:
            return f"The agent changed only files that git ignores: {listed(self._found.ignored)}"
        if state != self._at_start or self._found.other_index:
            return "The agent's files are as before, and what it did in the repository adds no commit"
        return "The agent changed nothing"


def _is_tag(ref: str) -> bool:
    return ref.startswith("refs/tags/")


def _is_module_below(one: InnerRepository, links: Iterable[str]) -> bool:
    """Tell whether a repository is a submodule of another submodule."""
    return _SUBMODULE_LINK in one.link and any(one.path.startswith(f"{link}/") for link in links)


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(f"{path}/".startswith(folder) for folder in folders)
