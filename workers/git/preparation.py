"""Preparation of a job's repository: fetch, keep for later jobs, and check out, with one copy of the objects.

The runner's bare repository gets what the server sends. The packs then move to the cache of the shard, and all git
processes of the job read them there: the runner's by its environment, the agent's through read-only mounts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from workers.errors import JobError
from workers.git.borrowed import FETCHED, KEPT, ObjectSources, packed_refs
from workers.git.checkout import Checkout, Seed
from workers.git.cleanup import remove_tree
from workers.git.command import Git
from workers.git.lfs import LfsObject, read_pointers
from workers.git.notes import Notes, read_notes
from workers.git.object_cache import DamagedObjects, KeptObjects, ObjectCache, PackManifest
from workers.git.policy import GitPolicy, RepoSpec, check_pair
from workers.git.process import MAX_STDOUT
from workers.git.remote import Listing, RemoteRepository, check_branch_available, check_not_default
from workers.git.submodules import ModuleEntry, read_entries
from workers.git.trees import count_paths
from workers.sandbox.sandbox import Mount, Sandbox

MB: Final = 2**20
# Prefix of the refs by which the server learns what the shard has.
_KNOWN: Final = "refs/kept/"
# A tag that points to another object is followed by the line of that object, as in packed-refs.
_TAG_FORMAT: Final = "%(objectname) %(refname)%(if)%(*objectname)%(then)%0a^%(*objectname)%(end)"

Log = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class Start:
    """Start of the agent's work: the commit of the base branch, or of the job's branch if that existed already."""

    base_branch: str
    base_sha: str
    sha: str
    object_format: str = "sha1"

    @property
    def continued(self) -> bool:
        return self.sha != self.base_sha


@dataclass(frozen=True)
class Contents:
    """Contents of the commits of the start, as the runner read them.

    Attributes:
        notes: of the base branch.
        modules: submodules of the start.
        pointers: what the start's pointers of Git LFS name.
    """

    notes: Notes
    modules: list[ModuleEntry]
    pointers: list[LfsObject]


class Stopwatch:
    """Seconds of each step, for a line in the log."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._steps: list[tuple[str, float]] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._steps.append((name, time.monotonic() - began))

    def summary(self) -> str:
        """Return the total and all steps, so that no second is without a name."""
        total = time.monotonic() - self._began
        rest = total - sum(seconds for _, seconds in self._steps)
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in [*self._steps, ("other", rest)])
        return f"The repository was ready after {total:.1f} s: {steps}"


class Preparation:
    """Preparation of one job. Call ``fetch``, then ``check_out``; ``close`` allows others to remove kept objects.

    Args:
        clean: the runner's bare repository, which ``fetch`` creates.
        sources: receives the folders of objects that the sandbox reads.
    """

    def __init__(
        self,
        spec: RepoSpec,
        policy: GitPolicy,
        git: Git,
        clean: Path,
        sandbox: Sandbox,
        sources: ObjectSources,
        log: Log,
    ) -> None:
        self._spec, self._policy, self._git, self._clean = spec, policy, git, clean
        self._sandbox, self._sources, self._log = sandbox, sources, log
        self._kept: KeptObjects | None = None
        self.times = Stopwatch()

    async def fetch(self, remote: RemoteRepository) -> Start:
        """Fetch the base branch, and the job's branch where it exists, with their history and tags.

        Raises:
            JobError: the repository cannot be used; see ``workers.git.failures``.
        """
        await self._create("sha1")
        # Reading the kept files takes about as long as the server's answer, so both happen at once.
        opening = asyncio.create_task(asyncio.to_thread(self._open_kept))
        try:
            await self._log(f"Connecting to {self._spec.url}")
            with self.times.step("listing"):
                base, listing = await self._find_branches(remote)
        finally:
            with self.times.step("checking kept objects"):
                manifest, problem = await opening
        if problem:
            await self._log(problem)
        if manifest is not None and manifest.object_format != listing.object_format and self._kept is not None:
            self._kept, manifest = await asyncio.to_thread(self._kept.renew), None
        names = [base, self._spec.branch] if self._spec.branch in listing.branches else [base]
        await self._receive(remote, manifest, names, listing.object_format)
        base_sha = await self._rev_parse(base)
        sha = base_sha if names[-1] == base else await self._rev_parse(names[-1])
        # Everything after this walks the paths of these commits.
        with self.times.step("counting"):
            for commit in dict.fromkeys((base_sha, sha)):
                await count_paths(self._git, self._clean, commit, self._policy.max_files)
        return Start(base, base_sha, sha, listing.object_format)

    async def check_out(self, checkout: Checkout, start: Start) -> Contents:
        """Make the agent's repository and check out the job's branch; keep and read the fetched commits.

        Raises:
            JobError: ``checkout_failed``, or an error of the sandbox.
        """
        branch = self._spec.branch
        if start.continued:
            await self._log(f"The branch {branch} exists already; the work continues on top of it")
        await self._log(f"Checking out {branch}")
        self._sources.mounts.append(Mount(self._clean / "objects", FETCHED))
        if self._kept is not None:
            self._sources.mounts.append(Mount(self._kept.objects, KEPT))
        self._sandbox.shared_mounts = tuple(self._sources.mounts)
        base = start.base_branch
        refs = {f"refs/heads/{base}": start.base_sha, f"refs/remotes/origin/{base}": start.base_sha}
        if start.continued:
            refs[f"refs/remotes/origin/{branch}"] = start.sha
        tags = await self._tags()
        seed = Seed(start.object_format, base, start.sha, self._spec.url, packed_refs(refs, tags))
        # A checkout waits for the disk for a part of its time.
        others = asyncio.gather(self._keep_packs(start), self._read(start))
        try:
            with self.times.step("checking out"):
                await checkout.create(seed)
        except BaseException:
            others.cancel()
            await asyncio.gather(others, return_exceptions=True)
            raise
        with self.times.step("keeping"):
            kept, contents = await others
            self._use_kept(kept)
        await self._log(f"Checked out {branch}")
        return contents

    async def _read(self, start: Start) -> Contents:
        notes = await read_notes(self._git, self._clean, start.base_sha)
        modules = await read_entries(self._git, self._clean, start.sha)
        return Contents(notes, modules, await read_pointers(self._git, self._clean, start.sha, self._policy.max_files))

    async def keep(self, start: Start) -> None:
        """Keep what was fetched for later jobs, without a checkout."""
        self._use_kept(await self._keep_packs(start))

    def close(self) -> None:
        """Allow the removal of the kept objects; the method may be called again."""
        if self._kept is not None:
            self._kept.close()

    async def _create(self, object_format: str) -> None:
        options = ["--quiet", "--bare", "--template=", f"--object-format={object_format}"]
        await self._git.check(["init", *options, "--", self._clean.name], cwd=self._clean.parent)

    def _open_kept(self) -> tuple[PackManifest | None, str]:
        """Open and verify what earlier jobs left; return its content, and a line for the log if it is not used."""
        folder, tenant = self._policy.object_cache, self._spec.tenant
        # Without a sandbox, agents could damage the files.
        if folder is None or not self._policy.object_cache_mb or tenant is None or not self._sandbox.isolated:
            return None, ""
        cache = ObjectCache(folder, self._policy.object_cache_mb)
        try:
            self._kept = cache.open(tenant, self._spec.url)
            try:
                manifest = self._kept.verify()
                if manifest is None or not manifest.is_crowded:
                    return manifest, ""
                reason = "have too many parts"
            except DamagedObjects as damage:
                reason = f"are damaged ({damage})"
            self._kept = self._kept.renew()
        except OSError as error:
            reason = f"cannot be used ({error.strerror})"
            self.close()
            self._kept = None
        return None, f"The objects that earlier jobs left {reason}, so the repository is fetched as a whole"

    async def _receive(
        self, remote: RemoteRepository, manifest: PackManifest | None, names: list[str], object_format: str
    ) -> None:
        """Get branches from the remote: as a whole, or what the kept objects do not have."""
        named = " and ".join(names)
        with self.times.step("fetching"):
            if self._kept is None or manifest is None or not manifest.tips:
                await self._log(f"Fetching {named}")
                remove_tree(self._clean)
                await remote.clone(names[0], self._log)
                names = names[1:]
            else:
                if object_format != "sha1":
                    remove_tree(self._clean)
                    await self._create(object_format)
                size = f"{manifest.size / MB:,.0f} MB"
                await self._log(f"Fetching {named}; {size} of the repository are on this shard from earlier jobs")
                self._announce(self._kept, manifest)
            if names:
                await remote.fetch(names, self._log)

    def _announce(self, kept: KeptObjects, manifest: PackManifest) -> None:
        """Let git know the kept objects."""
        lines = sorted(f"{tip} {_KNOWN}{number:04}" for number, tip in enumerate(manifest.tips))
        (self._clean / "packed-refs").write_text("".join(f"{line}\n" for line in lines))
        self._git.borrowed.append(kept.objects)

    async def _keep_packs(self, start: Start) -> bool:
        """Copy the fetched packs to the cache if there is one with room; return whether it has them."""
        # Of a shallow history, not everything below the tips is there.
        if self._kept is None or (self._clean / "shallow").exists():
            return False
        tips = list(dict.fromkeys((start.base_sha, start.sha)))
        try:
            kept = await asyncio.to_thread(self._kept.keep, self._packs, tips, start.object_format)
        except (OSError, DamagedObjects) as error:
            await self._log(f"The fetched objects are not kept for later jobs: {error}")
            return False
        if not kept:
            await self._log("The fetched objects are not kept for later jobs, because there is no room for them")
        return kept

    def _use_kept(self, kept: bool) -> None:
        """Remove the packs that the cache has, so that their objects exist once."""
        if self._kept is None or not kept:
            return
        if self._kept.objects not in self._git.borrowed:
            self._git.borrowed.append(self._kept.objects)
        for file in list(self._packs.iterdir()):
            file.unlink()

    @property
    def _packs(self) -> Path:
        return self._clean / "objects" / "pack"

    async def _find_branches(self, remote: RemoteRepository) -> tuple[str, Listing]:
        """Return the base branch and the branches that exist."""
        wanted, branch = self._spec.base_branch, self._spec.branch
        listing = await remote.list([name for name in (wanted, branch) if name])
        base = wanted or listing.default
        if base is None:
            raise JobError(
                "repo_empty", "The repository of repo_url has no default branch; give base_branch, or push a commit."
            )
        check_pair(branch, base)
        check_not_default(self._spec, listing.default)
        check_branch_available(branch, listing.branches)
        if wanted is not None and wanted not in listing.branches:
            raise JobError(
                "base_branch_not_found", f"The repository of repo_url has no branch '{wanted}' (base_branch)."
            )
        return base, listing

    async def _tags(self) -> list[str]:
        """Return the lines of packed-refs for the fetched tags."""
        listing = ["for-each-ref", f"--format={_TAG_FORMAT}", "refs/tags"]
        found = await self._git.run(listing, cwd=self._clean, max_output=MAX_STDOUT)
        lines = found.stdout.decode(errors="surrogateescape").split("\n")
        if found.truncated:
            await self._log("The repository has more tags than fit, so the checkout has only a part of them")
        # The last line is empty, or it was cut.
        return lines[:-1]

    async def _rev_parse(self, branch: str) -> str:
        return await self._git.check(["rev-parse", "--verify", f"refs/heads/{branch}^{{commit}}"], cwd=self._clean)
