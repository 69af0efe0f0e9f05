"""Record of the checkout as it was before the agent started, and commits of what the agent's files are after it.

The record is a git repository of our own with its own configuration, index and objects. The agent never sees it, so
damage in the agent's ``.git`` loses no file. All commands run in the sandbox as the agent's user.
"""

from __future__ import annotations

import os
import posixpath
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from workers.errors import JobError
from workers.git.attributes import ignore_line, verbatim_lines
from workers.git.borrowed import ObjectSources
from workers.git.by_products import CORE_PATTERNS, described, find_by_products
from workers.git.checkout_errors import TRACED, explain_checkout
from workers.git.command import check_space
from workers.git.path_changes import ABSENT, GITLINK, PathChange, parse_links, parse_raw, skipped_removals
from workers.git.policy import GitPolicy
from workers.git.process import PATH, last_line, printable_line
from workers.git.record_scripts import (
    AGENT_GIT,
    COMMIT_INDEX,
    COMPARE_BYTES,
    COPIES,
    CREATE,
    FETCHED,
    FORCED,
    INDEX_DIGEST,
    KEEP_VERBATIM,
    NEW_COMMITS,
    NEW_FILES,
    READ_TREE,
    READABLE,
    RECORD,
    SKIPPED,
    UNSTASH,
)
from workers.sandbox.sandbox import WORKSPACE, Completed, Mount, Sandbox

RECORD_TIMEOUT_S: Final = 600
COMMIT_TIMEOUT_S: Final = 300
PACK_TIMEOUT_S: Final = 600
MAX_LISTING: Final = 64 * 2**20
MAX_NAMED_ERRORS: Final = 10

_SETTINGS: Final = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.safecrlf": "false",
    "advice.addEmbeddedRepo": "false",
    "gc.auto": "0",
}


@dataclass(frozen=True)
class Files:
    """Commit of the agent's files; None when they are as in its parent. Each warning is a code and a sentence.

    Args:
        ignored: new files that git ignores.
        links: submodules that are at other commits than in the parent.
    """

    commit: str | None
    warnings: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


class CheckoutRecord:
    """Repository of our own for the files of a checkout. Call ``create`` before the agent starts.

    Args:
        directory: folder that is created for the record.
        sources: objects of the runner's repository, which the record reads and never changes.
    """

    def __init__(self, sandbox: Sandbox, directory: Path, sources: ObjectSources, policy: GitPolicy) -> None:
        self._sandbox, self._directory, self._sources, self._policy = sandbox, directory, sources, policy
        self.start = ""
        # Commits of the links to other repositories at the start, by their paths.
        self.gitlinks: dict[str, str] = {}
        # The repositories of others inside the checkout are renamed, so that git adds their files.
        self.hidden_git = f".hidden-git-{secrets.token_hex(8)}"
        self._borrowed = [f"{AGENT_GIT}/objects"]
        self.settings = dict(_SETTINGS)

    async def create(self, start: str, object_format: str) -> int:
        """Record the files of a fresh checkout, and return how many are stored otherwise than their attributes ask.

        The agent's repository gets settings that keep the bytes of these files, because git would rewrite them at any
        time.

        Raises:
            JobError: ``checkout_failed``, or an error of the sandbox.
        """
        self.start = start
        self._directory.mkdir(mode=0o700)
        if self._sandbox.host.root and self._sandbox.isolated:
            uid = self._sandbox.config.agent_uid
            os.chown(self._directory, uid, uid, follow_symlinks=False)
        created = await self._record(CREATE, start, object_format)
        links, _, changes = f"\0{text_of(created)}".partition("\0\0")
        self.gitlinks = parse_links(links)
        paths = [change.path for change in parse_raw(changes)]
        if lines := verbatim_lines(paths):
            encoded = lines.encode(errors="surrogateescape")
            await self._record(KEEP_VERBATIM, start, stdin=encoded)
        return len(paths)

    async def commit_files(
        self,
        parent: str,
        message: str,
        *,
        merged: Sequence[str] = (),
        work_tree: str = WORKSPACE,
        excluded: Iterable[str] = (),
        added: Sequence[str] = (),
    ) -> Files:
        """Commit all files of a work tree on top of ``parent``; only what the agent changed differs from it.

        Args:
            merged: further parents, for a merge that the agent finished without committing it.
            excluded: folders that are left out.
            added: folders whose own repository was hidden, so that their files are added.

        Raises:
            JobError: ``commit_failed``, or an error of the sandbox.
        """
        env = {"GIT_WORK_TREE": work_tree}
        if work_tree != WORKSPACE:
            env["GIT_INDEX_FILE"] = f"{RECORD}/plain/inner"
        patterns = [self.hidden_git, *(ignore_line(f"{path}/") for path in excluded)]
        encoded = "".join(f"{line}\n" for line in patterns).encode(errors="surrogateescape")
        self._require(await self.run(READ_TREE, parent, stdin=encoded, env=env), "commit_failed")
        await self._update("git update-index -z --force-remove --stdin", added, env)
        by_products = await self._leave_out_by_products(env)
        if work_tree == WORKSPACE:
            forced = text_of(await self.run(FORCED)).split("\0")
            await self._update("git update-index -z --add --remove --replace --stdin", forced, env)
        done = await self.run("git add --all --ignore-errors -- .", env=env, timeout_s=COMMIT_TIMEOUT_S)
        warnings = [*by_products, *_add_warnings(done)]
        links = await self._restore_untouched(parent, env)
        ignored = text_of(
            await self.run(
                "git ls-files -z --others --ignored --exclude-standard --directory --no-empty-directory", env=env
            )
        ).split("\0")
        # A folder with nothing but its hidden repository is listed too, although no rule of the project ignores it.
        folders = {f"{path}/" for path in added}
        asked = "".join(f"{path}\0" for path in folders).encode(errors="surrogateescape")
        by_rule = await self.run("git check-ignore -z --stdin", stdin=asked, env=env) if folders else None
        unlisted = folders.difference(text_of(by_rule).split("\0") if by_rule else ())
        hidden = f"{self.hidden_git}/"
        left = tuple(path for path in ignored if path and not path.endswith(hidden) and path not in unlisted)
        commit = await self._commit_index(parent, merged, message, env)
        return Files(commit, tuple(warnings), left, links)

    async def _update(self, command: str, paths: Iterable[str], env: Mapping[str, str]) -> None:
        if data := "".join(f"{path}\0" for path in paths if path):
            await self.run(command, stdin=data.encode(errors="surrogateescape"), env=env)

    async def _leave_out_by_products(self, env: Mapping[str, str]) -> list[tuple[str, str]]:
        """Let git ignore new files that only tools made, and return the warning."""
        fields = text_of(await self.run(NEW_FILES, *CORE_PATTERNS, env=env)).split("\0")
        end = fields.index("")
        found = find_by_products(fields[:end], (path.removeprefix("./") for path in fields[end + 1 :]))
        if not found:
            return []
        patterns = "".join(f"{ignore_line(path)}\n" for path in found).encode(errors="surrogateescape")
        await self.run(f"cat >> {RECORD}/plain/info/exclude", stdin=patterns, env=env)
        texts = [printable_line(text)[:200] for text in described(found)]
        more = f" and {len(texts) - MAX_NAMED_ERRORS} more" if len(texts) > MAX_NAMED_ERRORS else ""
        named = ", ".join(texts[:MAX_NAMED_ERRORS]) + more
        sentence = "These are by-products of tools and not part of the push, because the agent did not commit them"
        return [("by_products_left_out", f"{sentence}: {named}.")]

    async def _restore_untouched(self, parent: str, env: Mapping[str, str]) -> tuple[str, ...]:
        """Take back changes of files whose bytes are as checked out or that are skipped, and of links; return these."""
        listing = await self.run('git diff-index --cached --raw -z --no-renames "$1" --', parent, env=env)
        changes = parse_raw(text_of(listing))
        links = [change for change in changes if change.path in self.gitlinks and change.new_mode == GITLINK]
        kept = await self._untouched(changes, parent, env)
        if any(change.new_mode == ABSENT for change in changes):
            skipped = text_of(await self.run(SKIPPED, env=env)).split("\0")
            kept += skipped_removals(changes, (field[2:] for field in skipped))
        entries = "".join(f"{one.old_mode} {one.old}\t{one.path}\0" for one in [*links, *kept])
        if entries:
            await self.run("git update-index -z --index-info", stdin=entries.encode(errors="surrogateescape"), env=env)
        return tuple(change.path for change in links)

    async def _untouched(self, changes: Sequence[PathChange], parent: str, env: Mapping[str, str]) -> list[PathChange]:
        candidates = {one.path: one for one in changes if one.old_mode != ABSENT and one.new_mode != ABSENT}
        candidates = {path: one for path, one in candidates.items() if one.new_mode != GITLINK}
        if not candidates:
            return []
        if parent != self.start:
            # Only a file that the parent has as the checkout had it can be untouched.
            listing = await self.run('git diff-tree -r --raw -z --no-renames "$1" "$2" --', self.start, parent, env=env)
            for change in parse_raw(text_of(listing)):
                candidates.pop(change.path, None)
        data = "".join(f"{path}\0" for path in candidates)
        compared = await self.run(COMPARE_BYTES, stdin=data.encode(errors="surrogateescape"), env=env)
        if compared.returncode != 0:
            return []
        touched = {change.path for change in parse_raw(text_of(compared))}
        return [one for path, one in candidates.items() if path not in touched]

    async def _commit_index(
        self, parent: str, merged: Sequence[str], message: str, env: Mapping[str, str]
    ) -> str | None:
        parents = [word for sha in merged for word in ("-p", sha)]
        text = f"{message.strip()}\n".encode()
        done = await self.run(COMMIT_INDEX, parent, *parents, stdin=text, env=env, timeout_s=COMMIT_TIMEOUT_S)
        self._require(done, "commit_failed")
        return text_of(done).strip() or None

    async def readable(self, shas: Sequence[str], since: str | None = None) -> dict[str, str]:
        """Return the commit for each of the objects whose history after ``since``, or the start, is complete."""
        if not shas:
            return {}
        data = "".join(f"{sha}\n" for sha in shas).encode()
        done = await self.run(READABLE, since or self.start, stdin=data, timeout_s=PACK_TIMEOUT_S)
        pairs = (line.split(" ") for line in text_of(done).splitlines())
        return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}

    async def new_commits(self, shas: Sequence[str], known: Iterable[str]) -> list[str]:
        """Return those of the commits that are not in the history of the known ones."""
        if not shas:
            return []
        data = "".join(f"{sha}\n" for sha in shas).encode()
        done = await self.run(NEW_COMMITS, *sorted(known), stdin=data, timeout_s=PACK_TIMEOUT_S)
        printed = set(text_of(done).split())
        return [sha for sha in shas if sha in printed]

    async def unstash(self, stashes: Sequence[str], message: str) -> list[str]:
        """Return for each stash a plain commit on top of the commit that it was made on, or an empty text."""
        if not stashes:
            return []
        data = "".join(f"{sha}\n" for sha in stashes).encode()
        parts = [UNSTASH, f"{message.strip()}\n"]
        done = await self.run(*parts, stdin=data, timeout_s=PACK_TIMEOUT_S)
        return text_of(done).split("\n")[: len(stashes)]

    async def index_digest(self) -> str:
        """Return a digest of the entries of the agent's own index."""
        return text_of(await self.run(INDEX_DIGEST))

    async def copies(self, paths: Sequence[str]) -> frozenset[str]:
        """Return the folders whose repository has the commit of the start, so that it is a copy of the job's own."""
        if not paths:
            return frozenset()
        done = await self.run(COPIES, self.start, *(posixpath.join("./", path) for path in paths))
        return frozenset(path.removeprefix("./") for path in text_of(done).split("\0") if path)

    async def hide_git(self, paths: Sequence[str]) -> None:
        """Rename the ``.git`` of inner repositories, because git would only add a link to them."""
        script = 'hidden=$1; shift\nfor path; do mv -- "$path/.git" "$path/$hidden"; done'
        if paths:
            await self.run(script, self.hidden_git, *(f"./{path}" for path in paths))

    @property
    def fetched_folders(self) -> str:
        """Folders of the objects that the runner itself fetched, as git separates them."""
        return ":".join(self._sources.folders)

    async def fetched(self, shas: Iterable[str]) -> frozenset[str]:
        """Return those of the commits that the runner itself fetched."""
        data = "".join(f"{sha}\n" for sha in shas).encode()
        env = {"GIT_OBJECT_DIRECTORY": f"{RECORD}/none"}
        env["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = self.fetched_folders
        return frozenset(text_of(await self.run(FETCHED, stdin=data, env=env)).split())

    def borrow(self, folders: Iterable[str]) -> None:
        """Let the record read further objects of the agent; git separates such folders by colons."""
        self._borrowed += [folder for folder in folders if ":" not in folder and folder not in self._borrowed]

    async def pack(self, tips: Iterable[str], known: Iterable[str], file: BinaryIO) -> None:
        """Write what ``tips`` have and ``known`` do not have as a pack of at most the policy's size.

        Raises:
            JobError: ``changes_too_large`` or ``changes_invalid``.
        """
        limit = self._policy.max_bundle_mb * 2**20
        revisions = "".join(f"{line}\n" for line in [*tips, *(f"^{sha}" for sha in known)])
        # Allow one byte more than the limit, so that a larger pack can be detected.
        command = (
            f"exec prlimit --fsize={limit + 1} git pack-objects --quiet --revs --thin --stdout --delta-base-offset"
        )
        done = await self.run(command, stdin=revisions.encode(), stdout_file=file, timeout_s=PACK_TIMEOUT_S)
        if os.fstat(file.fileno()).st_size > limit:
            raise changes_too_large(self._policy.max_bundle_mb)
        self._require(done, "changes_invalid")

    async def _record(self, script: str, *args: str, stdin: bytes = b"") -> Completed:
        """Run a script before the agent starts, when a failure is one of the checkout."""
        done = await self.run(script, *args, stdin=stdin, env=TRACED, timeout_s=RECORD_TIMEOUT_S)
        if done.returncode != 0:
            raise await explain_checkout(self._sandbox, done)
        return done

    async def run(
        self,
        script: str,
        *args: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        stdout_file: BinaryIO | None = None,
        timeout_s: float = COMMIT_TIMEOUT_S,
    ) -> Completed:
        """Run a script with the record as git's repository.

        Raises:
            JobError: ``disk_full``, or an error of the sandbox.
        """
        mounts = (Mount(self._directory, RECORD, writable=True), *self._sources.mounts)
        done = await self._sandbox.run(
            ["sh", "-c", script, "sh", *args],
            env={**self._environment(), **(env or {})},
            mounts=mounts,
            stdin=stdin,
            stdout_file=stdout_file,
            max_output=MAX_LISTING,
            timeout_s=timeout_s,
        )
        if done.returncode != 0:
            # A part of the agent's work must not be pushed as if it were all of it.
            check_space(stderr_of(done))
        return done

    def _environment(self) -> dict[str, str]:
        name, email = self._policy.author_name, self._policy.author_email
        found = {
            "PATH": PATH,
            "HOME": "/home/agent",
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "none",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_DIR": f"{RECORD}/plain",
            "GIT_WORK_TREE": WORKSPACE,
            "GIT_OBJECT_DIRECTORY": f"{RECORD}/objects",
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join([*self._sources.folders, *self._borrowed]),
            "GIT_CONFIG_COUNT": str(len(self.settings)),
        }
        for number, (key, value) in enumerate(self.settings.items()):
            found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        for role in ("AUTHOR", "COMMITTER"):
            found |= {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": email}
        return found

    @staticmethod
    def _require(done: Completed, code: str) -> None:
        if done.returncode == 0:
            return
        detail = last_line(stderr_of(done))
        if code == "commit_failed":
            raise JobError("commit_failed", f"The agent's uncommitted work could not be committed: {detail}.")
        raise JobError("changes_invalid", f"The agent's commits could not be packed, so nothing was pushed: {detail}.")


def changes_too_large(max_mb: int) -> JobError:
    return JobError(
        "changes_too_large",
        f"The agent's commits are larger than {max_mb} MB, so nothing was pushed; "
        "exclude build results by .gitignore, or ask for fewer and smaller files.",
    )


def text_of(done: Completed) -> str:
    return done.stdout.decode(errors="surrogateescape")


def stderr_of(done: Completed) -> str:
    return done.stderr.decode(errors="replace")


def _add_warnings(done: Completed) -> list[tuple[str, str]]:
    if done.returncode == 0:
        return []
    lines = [printable_line(line) for line in stderr_of(done).splitlines()]
    errors = [line.removeprefix("error: ")[:200] for line in lines if line.startswith(("error:", "fatal:"))]
    named = "; ".join(errors[:MAX_NAMED_ERRORS]) or last_line(stderr_of(done))
    more = f"; and {len(errors) - MAX_NAMED_ERRORS} more" if len(errors) > MAX_NAMED_ERRORS else ""
    return [("git_add_incomplete", f"Some files could not be added to the commit: {named}{more}.")]
