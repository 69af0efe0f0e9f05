"""Checkout of the agent: every command here runs in the sandbox as the agent's user, and gets no secret.

The agent may have changed anything in its ``.git``, so the output of these commands is not trusted.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from workers.git.agent_state import READ_STATE, AgentState, parse_state
from workers.git.borrowed import ObjectSources
from workers.git.checkout_errors import TRACED, explain_checkout
from workers.git.command import check_space
from workers.git.policy import GitPolicy
from workers.git.process import PATH, last_line
from workers.git.work_trees import LIST_TREES, WorkTree, parse_trees
from workers.sandbox.sandbox import WORKSPACE, Completed, Sandbox

CHECKOUT_TIMEOUT_S: Final = 600
COMMIT_TIMEOUT_S: Final = 300
MAX_STATE: Final = 16 * 2**20
MAX_INNER: Final = 1000

_ENV: Final = {
    "PATH": PATH,
    "HOME": "/home/agent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ALLOW_PROTOCOL": "file",
}
_IN_REPO: Final = {"GIT_DIR": "/workspace/.git", "GIT_WORK_TREE": "/workspace"}

# Files in .git that an interrupted operation leaves. Locks are removed first, because their owners have ended.
_STATES: Final = ("rebase-apply/applying", "rebase-merge", "rebase-apply", "MERGE_HEAD", "CHERRY_PICK_HEAD")
_LATER_STATES: Final = ("REVERT_HEAD", "BISECT_LOG")
_PROBE: Final = """
rm -f "$GIT_DIR/index.lock" "$GIT_DIR/HEAD.lock"
for state; do if [ -e "$GIT_DIR/$state" ]; then echo "$state"; fi; done
if [ -f "$GIT_DIR/sequencer/todo" ]; then echo "todo $(grep -c '^[a-z]' "$GIT_DIR/sequencer/todo")"; fi
"""
# The agent owns its files, so it may read them. Only the owner's own right to execute a file is part of a commit.
_MAKE_READABLE: Final = """
find /workspace -type d ! -perm -u=rwx -exec chmod u+rwx {} ';' -o -type f ! -perm -u=r -exec chmod u+r {} +
"""
# Of what is outside of the workspace, only the agent's home outlives the agent.
_FIND_INNER: Final = """
{
  find . -mindepth 2 -name .git -prune -print | head -n "$1"
  find "$HOME" -mindepth 1 -maxdepth 6 -name .git -prune -print | head -n "$1"
} | while IFS= read -r path; do
  printf '%s\\0' "$path"
  if [ -f "$path" ]; then head -c 4000 "$path" | tr -d '\\0'; fi
  printf '\\0'
done
"""


# Reads the packed refs from its input. Without a sandbox, the agent could damage objects that it borrows, so it gets
# copies.
_CREATE: Final = """
set -e
how=$1 format=$2 base=$3 branch=$4 start=$5 url=$6 name=$7 email=$8; shift 8
git init --quiet --template= --object-format="$format" .
for folder; do
  if [ "$how" = borrow ]; then echo "$folder" >> .git/objects/info/alternates; continue; fi
  for file in "$folder"/pack/*; do if [ -f "$file" ]; then cp "$file" .git/objects/pack/; fi; done
done
cat > .git/packed-refs
git config user.name "$name"
git config user.email "$email"
git config remote.origin.url "$url"
git config remote.origin.fetch '+refs/heads/*:refs/remotes/origin/*'
git config "branch.$base.remote" origin
git config "branch.$base.merge" "refs/heads/$base"
git symbolic-ref refs/remotes/origin/HEAD "refs/remotes/origin/$base"
git symbolic-ref HEAD "refs/heads/$branch"
git update-ref -m 'clone: start of the job' HEAD "$start"
if git -c checkout.workers=2 read-tree --reset -u "$start"; then exit 0; fi
# Two processes remove a file that fills the disk. One leaves it, which is the evidence of the cause.
rm -f .git/index.lock
exec git read-tree --reset -u "$start"
"""


# The folders of submodules are empty ones, which git made.
_ADD_SUBMODULES: Final = """
set -e
how=$1 format=$2; shift 2
sources=$1; shift
mkdir -p .git/modules
while [ $# -ge 4 ]; do
  own="$PWD/.git/modules/$1"
  git init --quiet --template= --object-format="$format" --separate-git-dir="$own" "$2"
  for folder in $sources; do
    if [ "$how" = borrow ]; then echo "$folder" >> "$own/objects/info/alternates"; continue; fi
    for file in "$folder"/pack/*; do if [ -f "$file" ]; then cp "$file" "$own/objects/pack/"; fi; done
  done
  git -C "$2" update-ref --no-deref HEAD "$3"
  git -C "$2" config remote.origin.url "$4"
  git -C "$2" read-tree --reset -u "$3"
  shift 4
done
"""


@dataclass(frozen=True)
class Submodule:
    """Submodule that was fetched.

    Args:
        name: name of the folder for its repository.
    """

    name: str
    path: str
    sha: str
    url: str


@dataclass(frozen=True)
class Seed:
    """Content of a new checkout.

    Args:
        base: name of the base branch.
        start: commit of the job's branch.
        url: address of the remote, for the agent's information.
        refs: content of ``packed-refs``.
    """

    object_format: str
    base: str
    start: str
    url: str
    refs: str


@dataclass(frozen=True)
class InnerRepository:
    """Repository inside the workspace, or in the agent's home.

    Args:
        path: path in the workspace, or an absolute one.
        link: content of a ``.git`` that is a file.
    """

    path: str
    link: str

    @property
    def folder(self) -> str:
        return posixpath.join(WORKSPACE, self.path)

    @property
    def is_inside(self) -> bool:
        return not self.path.startswith("/")


def undo_command(states: Iterable[str], unmerged: bool) -> list[str] | None:
    """Return the git command that undoes the agent's unfinished operation, or None.

    A rebase or bisect is undone, because the branch still has the commits from before it. A merge, cherry-pick or
    revert without conflicts is committed instead; with conflicts it is undone too.
    """
    found = set(states)
    if "rebase-apply/applying" in found:
        return ["am", "--abort"]
    if found & {"rebase-merge", "rebase-apply"}:
        return ["rebase", "--abort"]
    for state, command in (("MERGE_HEAD", "merge"), ("CHERRY_PICK_HEAD", "cherry-pick"), ("REVERT_HEAD", "revert")):
        if state in found and unmerged:
            return [command, "--abort"]
    return ["bisect", "reset"] if "BISECT_LOG" in found else None


@dataclass(frozen=True)
class Unfinished:
    """Operation of git that the agent left unfinished.

    Args:
        undo: the git command that undoes it, or None.
        warnings: a code and a sentence for each part that is kept as it is.
    """

    undo: list[str] | None = None
    warnings: tuple[tuple[str, str], ...] = ()


def find_unfinished(lines: Iterable[str], unmerged: bool) -> Unfinished:
    """Return the unfinished operation from the names of git's files for it.

    Args:
        lines: names of such files, and ``todo N`` for a series with N commits from the current one on.
        unmerged: whether the index has conflicts.
    """
    found = list(lines)
    if (command := undo_command(found, unmerged)) is not None:
        return Unfinished(command)
    if unmerged:
        sentence = "The agent left merge conflicts; they were committed with their conflict markers."
        return Unfinished(None, (("git_conflicts", sentence),))
    counts = [line.removeprefix("todo ") for line in found if line.startswith("todo ")]
    rest = max((int(count) - 1 for count in counts if count.isdigit()), default=0)
    if rest < 1:
        return Unfinished()
    sentence = (
        "The agent left a series of git cherry-pick or git revert unfinished; its finished part is kept, and "
        f"{rest} further commits were not applied."
    )
    return Unfinished(None, (("git_operation_unfinished", sentence),))


class Checkout:
    """Repository at ``/workspace`` in a sandbox."""

    def __init__(self, sandbox: Sandbox, branch: str, policy: GitPolicy, sources: ObjectSources) -> None:
        self._sandbox = sandbox
        self._branch = branch
        self._policy = policy
        self._sources = sources
        # Folders of the fetched submodules' repositories, by the paths of the submodules.
        self.modules: dict[str, str] = {}

    async def create(self, seed: Seed) -> None:
        """Make the repository in the empty workspace and check out the job's branch.

        Raises:
            JobError: ``checkout_failed``, or the code of the limit that git met.
        """
        how = "borrow" if self._sandbox.isolated else "copy"
        names = (how, seed.object_format, seed.base, self._branch, seed.start, seed.url, *self._policy.person)
        done = await self._sandbox.run(
            ["sh", "-c", _CREATE, "sh", *names, *self._sources.folders],
            env=_ENV | TRACED,
            mounts=self._sources.mounts,
            stdin=seed.refs.encode(errors="surrogateescape"),
            timeout_s=CHECKOUT_TIMEOUT_S,
            cwd="/workspace",
        )
        if done.returncode != 0:
            raise await explain_checkout(self._sandbox, done)

    async def add_submodules(self, submodules: Sequence[Submodule], object_format: str) -> None:
        """Make the repositories of submodules and check them out.

        Raises:
            JobError: ``checkout_failed``, or the code of the limit that git met.
        """
        how = "borrow" if self._sandbox.isolated else "copy"
        fields = [field for one in submodules for field in (one.name, f"./{one.path}", one.sha, one.url)]
        done = await self._sandbox.run(
            ["sh", "-c", _ADD_SUBMODULES, "sh", how, object_format, " ".join(self._sources.folders), *fields],
            env=_ENV | TRACED,
            mounts=self._sources.mounts,
            timeout_s=CHECKOUT_TIMEOUT_S,
            cwd="/workspace",
        )
        if done.returncode != 0:
            raise await explain_checkout(self._sandbox, done)
        self.modules = {one.path: f"{_IN_REPO['GIT_DIR']}/modules/{one.name}" for one in submodules}

    async def find_unfinished(self) -> Unfinished:
        """Make the agent's files readable, and find the operation of git that it left unfinished."""
        command = ["sh", "-c", f"{_MAKE_READABLE}{_PROBE}", "sh", *_STATES, *_LATER_STATES]
        probe = await self._sandbox.run(command, env=_ENV | _IN_REPO, timeout_s=COMMIT_TIMEOUT_S)
        unmerged = (await self._git(["ls-files", "--unmerged"])).stdout != b""
        return find_unfinished(probe.stdout.decode(errors="replace").splitlines(), unmerged)

    async def undo(self, command: Sequence[str]) -> tuple[str, str]:
        """Undo an unfinished operation, and return the warning; if git cannot undo it, the files stay as they are."""
        done = await self._git(command)
        result = "it was undone before the push"
        if done.returncode != 0:
            result = f"git could not undo it ({last_line(_stderr(done))}), so its files count as they are"
        return "git_operation_unfinished", f"The agent left a git {command[0]} unfinished; {result}."

    async def read_state(self, git_folder: str) -> AgentState:
        """Return the refs of a repository of the agent, also of a damaged one."""
        done = await self._sandbox.run(
            ["sh", "-c", READ_STATE, "sh", git_folder], env=_ENV, max_output=MAX_STATE, timeout_s=COMMIT_TIMEOUT_S
        )
        return parse_state(done.stdout.decode(errors="surrogateescape"))

    async def inner_repositories(self) -> list[InnerRepository]:
        """Return the repositories inside the workspace, without its own, and those in the agent's home."""
        done = await self._sandbox.run(
            ["sh", "-c", _FIND_INNER, "sh", str(MAX_INNER)], env=_ENV, max_output=MAX_STATE, timeout_s=COMMIT_TIMEOUT_S
        )
        fields = done.stdout.decode(errors="surrogateescape").split("\0")
        pairs = zip(fields[::2], fields[1::2], strict=False)
        return [InnerRepository(path.removeprefix("./").removesuffix("/.git"), link.strip()) for path, link in pairs]

    async def work_trees(self, git_folder: str) -> list[WorkTree]:
        """Return the further work trees of a repository of the agent."""
        done = await self._sandbox.run(
            ["sh", "-c", LIST_TREES, "sh", git_folder], env=_ENV, max_output=MAX_STATE, timeout_s=COMMIT_TIMEOUT_S
        )
        return parse_trees(done.stdout.decode(errors="surrogateescape"))

    async def _git(
        self,
        args: Sequence[str],
        *,
        timeout_s: float = COMMIT_TIMEOUT_S,
    ) -> Completed:
        # These settings spare honest agents surprises; against the others the sandbox alone counts.
        config = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.bare=false", "gc.auto=0")
        name, email = self._policy.author_name, self._policy.author_email
        people = {
            **{f"GIT_{role}_NAME": name for role in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{role}_EMAIL": email for role in ("AUTHOR", "COMMITTER")},
        }
        done = await self._sandbox.run(
            ["git", *(part for setting in config for part in ("-c", setting)), *args],
            env=_ENV | _IN_REPO | people,
            timeout_s=timeout_s,
        )
        if done.returncode != 0:
            # A part of the agent's work must not be pushed as if it were all of it.
            check_space(_stderr(done))
        return done


def _stderr(done: Completed) -> str:
    return done.stderr.decode(errors="replace")
