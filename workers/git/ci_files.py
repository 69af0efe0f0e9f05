"""Files that make a server run programs with the repository's own rights, and the commits that change them."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from workers.errors import JobError
from workers.git.command import Git
from workers.git.trees import Entry, ObjectReader, open_reader

MAX_COMMITS: Final = 10_000
MAX_ENTRIES: Final = 5_000_000
MAX_LINKS: Final = 100
MAX_HOPS: Final = 10
_LINK: Final = b"120000"
_YAML: Final = r"[^/]*\.ya?ml"

# Each pattern also covers what is below a path, and a file, link or submodule in place of a folder above it.
_AT_TOP: Final = (
    r"\.(?:github|gitea|forgejo)(?:/(?:workflows|actions)(?:/.*)?)?",
    r"\.gitlab(?:/ci(?:/.*)?)?",
    r"(?:\.(?:azure-pipelines|buildkite|builds|circleci|harness|semaphore|teamcity|tekton)|bamboo-specs)(?:/.*)?",
)
# The path of these is a setting of the server, so they can be in any folder.
_ANYWHERE: Final = (
    r"jenkinsfile(?:[._-][^/]*)?",
    r"[^/]*\.jenkinsfile",
    r"[^/]*\.gitlab-ci[^/]*",
    rf"azure-pipelines{_YAML}",
    r"bitbucket-pipelines[^/]*",
    r"\.woodpecker[^/]*",
    r"\.drone(?:\.[^/]*)?",
    rf"buildspec{_YAML}",
    r"cloudbuild[^/]*\.(?:ya?ml|json)",
    r"\.?appveyor\.ya?ml",
    r"\.(?:build|travis)\.ya?ml",
    r"\.cirrus\.[^/]*",
)
_CI: Final = re.compile(rf"(?:{'|'.join(_AT_TOP)}|(?:.*/)?(?:{'|'.join(_ANYWHERE)})(?:/.*)?)", re.DOTALL)


def canonical(path: str) -> str:
    """Return a path as a file system sees it that ignores case, invisible characters and dots at the end of names."""
    visible = "".join(char for char in unicodedata.normalize("NFC", path) if unicodedata.category(char) != "Cf")
    return "/".join(part.rstrip(" .") or part for part in visible.casefold().split("/"))


def is_ci_path(path: str, linked: Iterable[str] = ()) -> bool:
    """Tell whether a change of a path may change what a CI server runs.

    Args:
        path: path of a file, a link or a submodule.
        linked: canonical paths that links at such paths lead to, each with everything below it.
    """
    name = canonical(path)
    return _CI.fullmatch(name) is not None or any(
        link == "." or name == link or name.startswith(link + "/") or link.startswith(name + "/") for link in linked
    )


class _Comparison(NamedTuple):
    """Folder of a commit and the same folder of each known commit; None where it does not exist."""

    path: str
    tree: str | None
    known: tuple[str | None, ...]


async def changed_ci_files(git: Git, repository: Path, head: str, known: Sequence[str], max_files: int) -> list[str]:
    """Return the CI files that a push of ``head`` would change.

    A file is changed when its mode or content is, in any new commit, other than in each of the known commits. So a
    rename, a removal, a link and a submodule are changes too.

    Args:
        known: commits that the remote has already: the base branch, and the job's branch if it exists.
        max_files: see ``open_reader``.

    Raises:
        JobError: ``changes_too_many``, or an error of ``open_reader``.
    """
    # One commit more than the bound shows that there are more.
    listing = ["rev-list", f"--max-count={MAX_COMMITS + 1}", head, "--not", *known, "--"]
    commits = (await git.check(listing, cwd=repository)).split()
    if len(commits) > MAX_COMMITS:
        raise _too_many(f"there are more than {MAX_COMMITS:,} of them")
    async with open_reader(git, repository, max_files) as reader:
        finder = _ChangeFinder(reader)
        roots = tuple(f"{commit}^{{tree}}" for commit in dict.fromkeys(known))
        linked = {path for root in roots for path in await _linked_paths(finder, root)}
        found: set[str] = set()
        for commit in commits:
            changed = await finder.changed(_Comparison("", f"{commit}^{{tree}}", roots))
            found.update(path for path in changed if is_ci_path(path, linked))
    return sorted(found)


class _ChangeFinder:
    """Finder of changed paths, which reads no pair of folders twice."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self._seen: set[_Comparison] = set()
        self._read = 0

    async def entries(self, tree: str | None) -> dict[str, Entry]:
        """Return the entries of a folder by name.

        Raises:
            JobError: ``changes_too_many``, or see ``ObjectReader.read``.
        """
        if tree is None:
            return {}
        entries = await self._reader.entries(tree)
        self._read += len(entries) + 1
        if self._read > MAX_ENTRIES:
            raise _too_many("they change too many folders to be checked")
        # Old tools wrote some modes with a leading zero.
        plain = (entry._replace(mode=entry.mode.lstrip(b"0")) for entry in entries)
        return {entry.name.decode(errors="surrogateescape"): entry for entry in plain}

    async def link_target(self, entry: Entry) -> str:
        target = [data async for _, data in self._reader.read([entry.oid.hex()])]
        return target[0].decode(errors="surrogateescape")

    async def changed(self, start: _Comparison) -> list[str]:
        """Return the paths of files, links and submodules that differ from all known commits."""
        found: list[str] = []
        pending = [start]
        while pending:
            folder = pending.pop()
            if folder in self._seen:
                continue
            self._seen.add(folder)
            mine = await self.entries(folder.tree)
            theirs = [await self.entries(tree) for tree in folder.known]
            for name in mine.keys() | {name for entries in theirs for name in entries}:
                own, others = mine.get(name), [entries.get(name) for entries in theirs]
                if own in others:
                    continue
                path = folder.path + name
                if any(entry is not None and not entry.is_tree for entry in (own, *others)):
                    found.append(path)
                below = _Comparison(f"{path}/", _tree(own), tuple(_tree(entry) for entry in others))
                if below.tree is not None or any(below.known):
                    pending.append(below)
        return found


def _tree(entry: Entry | None) -> str | None:
    return entry.oid.hex() if entry is not None and entry.is_tree else None


async def _linked_paths(finder: _ChangeFinder, root: str) -> set[str]:
    """Return the canonical paths that links at CI paths lead to, with the links on the way."""
    found: set[str] = set()
    links = 0
    pending = [("", root)]
    while pending:
        above, tree = pending.pop()
        for name, entry in (await finder.entries(tree)).items():
            path = above + name
            if not is_ci_path(path):
                continue
            if entry.is_tree:
                pending.append((f"{path}/", entry.oid.hex()))
            elif entry.mode == _LINK:
                if (links := links + 1) > MAX_LINKS:
                    raise _too_many(f"the repository has more than {MAX_LINKS} links as CI files")
                found.update(canonical(step) for step in await _follow(finder, root, path))
    return found


async def _follow(finder: _ChangeFinder, root: str, path: str) -> list[str]:
    """Return the paths of all links on the way from a path to its last target, and of that target."""
    steps: list[str] = []
    for _ in range(MAX_HOPS):
        rest = await _next_target(finder, root, path)
        steps.append(path)
        if rest is None or rest.startswith(("/", "../")) or rest == "..":
            break
        path = rest
    return steps


async def _next_target(finder: _ChangeFinder, root: str, path: str) -> str | None:
    """Replace the first link in a path by its target; None when the path has no link."""
    tree: str | None = root
    for above, name, below in _split(path):
        entry = (await finder.entries(tree)).get(name)
        if entry is not None and entry.mode == _LINK:
            return posixpath.normpath(posixpath.join(above, await finder.link_target(entry), below))
        if (tree := _tree(entry)) is None:
            return None
    return None


def _split(path: str) -> Iterator[tuple[str, str, str]]:
    parts = path.split("/")
    for at, name in enumerate(parts):
        yield "/".join(parts[:at]), name, "/".join(parts[at + 1 :])


def _too_many(detail: str) -> JobError:
    return JobError("changes_too_many", f"The commits cannot be checked for changes of CI files: {detail}.")
