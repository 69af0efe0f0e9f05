"""Contents of a job's Git LFS files: into the checkout before the agent starts, and to the server before the push."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from workers.errors import JobError
from workers.git.command import Git
from workers.git.lfs import LfsObject, new_pointers
from workers.git.lfs_client import LfsClient, LfsError, failed_upload
from workers.git.policy import GitPolicy, RepoSpec
from workers.git.record import CheckoutRecord
from workers.git.record_scripts import AGENT_GIT, RECORD
from workers.sandbox.sandbox import Mount, Sandbox

PROGRAM: Final = "/run/git-lfs"
# git-lfs searches for contents next to each folder of objects that a repository borrows.
CONTENTS: Final = "/run/base/lfs"
PLACE_TIMEOUT_S: Final = 600
MAX_NEW: Final = 1000
MB: Final = 2**20
FILTER: Final = {
    "filter.lfs.clean": f"{PROGRAM} clean -- %f",
    "filter.lfs.smudge": f"{PROGRAM} smudge -- %f",
    "filter.lfs.process": f"{PROGRAM} filter-process",
    "filter.lfs.required": "true",
    # The agent reaches no server. A content that is not there stays a pointer.
    "lfs.skipdownloaderrors": "true",
    "lfs.transfer.maxretries": "1",
}
_PLACE: Final = f"""
while [ $# -ge 2 ]; do git config "$1" "$2"; shift 2; done
{PROGRAM} checkout
"""
_SHOW: Final = f"""
for folder in {AGENT_GIT}/lfs/objects {RECORD}/plain/lfs/objects; do
  if [ -f "$folder/$1" ] && [ ! -L "$folder/$1" ]; then exec head -c "$2" "$folder/$1"; fi
done
exit 3
"""


class LfsFiles:
    """Git LFS files of one job.

    Args:
        clean: the runner's bare repository.
        record: commits the agent's files, with the filter of git-lfs once contents are there.
        connect: returns a client with the job's present token.
    """

    def __init__(
        self,
        spec: RepoSpec,
        policy: GitPolicy,
        git: Git,
        clean: Path,
        sandbox: Sandbox,
        record: CheckoutRecord,
        connect: Callable[[], LfsClient],
    ) -> None:
        self._spec, self._policy, self._git, self._clean = spec, policy, git, clean
        self._sandbox, self._record, self._connect = sandbox, record, connect

    async def place(self, pointers: Sequence[LfsObject]) -> tuple[int, str]:
        """Put the contents of pointers into the checkout.

        Args:
            pointers: those of the commit that is checked out.

        Returns:
            The number of pointers, and the reason why their contents are not there; empty if they are.
        """
        if not pointers:
            return 0, ""
        if reason := self._refusal(pointers):
            return len(pointers), reason
        folder = self._clean.parent / "lfs"
        try:
            await self._connect().download(list(dict.fromkeys(pointers)), folder / "objects")
        except (LfsError, JobError) as error:
            return len(pointers), f"the LFS server did not give them: {error}"
        for one in (folder, *folder.rglob("*")):
            one.chmod(0o755 if one.is_dir() else 0o444)
        program = self._policy.lfs_program
        mounts = [Mount(folder, CONTENTS), *([Mount(program, PROGRAM)] if program else [])]
        self._sandbox.shared_mounts = (*self._sandbox.shared_mounts, *mounts)
        self._record.settings |= FILTER
        settings = [word for pair in FILTER.items() for word in pair]
        done = await self._sandbox.run(
            ["sh", "-ec", _PLACE, "sh", *settings],
            env={"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0"},
            timeout_s=PLACE_TIMEOUT_S,
        )
        if done.returncode != 0:
            return len(pointers), "git-lfs could not write them"
        return len(pointers), ""

    async def upload(self, head: str, known: Sequence[str], *, has_checkout: bool) -> list[str]:
        """Upload the contents of all new pointers; return the names of those that do not exist anywhere.

        The same call may be repeated.

        Args:
            has_checkout: whether this attempt has the agent's checkout, which has the contents.

        Raises:
            JobError: ``lfs_upload_failed`` or ``changes_too_large``.
        """
        if self._refusal(()):
            return []
        pointers = await new_pointers(self._git, self._clean, head, known, self._policy.max_files)
        if not pointers:
            return []
        limit = self._policy.max_bundle_mb
        if len(pointers) > MAX_NEW or sum(one.size for one in pointers) > limit * MB:
            raise JobError(
                "changes_too_large",
                f"The agent made more than {MAX_NEW:,} files of Git LFS, or more than {limit} MB of them, so nothing "
                "was pushed; ask for fewer.",
            )
        folder = self._clean.parent / "lfs-new"
        for one in pointers if has_checkout else ():
            await self._take(one, one.path(folder))
        try:
            missing = await self._connect().upload(pointers, folder)
        except (LfsError, JobError) as error:
            raise failed_upload(error) from error
        return [one.oid for one in missing]

    def _refusal(self, pointers: Sequence[LfsObject]) -> str:
        if self._policy.lfs_program is None:
            return "this shard has no git-lfs"
        if not self._sandbox.isolated:
            return "this shard has no sandbox"
        if urlsplit(self._spec.url).scheme != "https":
            return "they are fetched over https only"
        if sum(one.size for one in pointers) > self._policy.max_repo_mb * MB:
            return f"they are larger than {self._policy.max_repo_mb} MB"
        return ""

    async def _take(self, one: LfsObject, path: Path) -> None:
        """Take a content out of the sandbox, if it is there and is the one that its name says."""
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            # One byte more shows that a file is too long.
            place = f"{one.oid[:2]}/{one.oid[2:4]}/{one.oid}"
            done = await self._record.run(_SHOW, place, str(one.size + 1), stdout_file=file)
        if done.returncode != 0 or not await asyncio.to_thread(_is_content, path, one):
            path.unlink()


def _is_content(path: Path, one: LfsObject) -> bool:
    with path.open("rb") as file:
        return path.stat().st_size == one.size and hashlib.file_digest(file, "sha256").hexdigest() == one.oid
