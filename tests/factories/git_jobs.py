"""Jobs with a repository, from the clone to the push, without a runner."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from myctobot.contract.jobs import EventKind
from workers.git.policy import GitPolicy, Resolver, resolve_host
from workers.git.workspace import RepoSpec, Workspace
from workers.sandbox.disk_image import DiskImage
from workers.sandbox.sandbox import Completed, ResourceLimits, Sandbox, SandboxConfig

TOKEN = "canary-3f9d1c77a2b64e58"
AGENT_UID = 61234
FILES = {"README.md": "# Example\n", "CLAUDE.md": "Be kind.\n", "src/app.py": "print('hello')\n"}


@dataclass
class Job:
    """Workspace under test, and its events."""

    workspace: Workspace
    sandbox: Sandbox
    job_dir: Path
    image: DiskImage | None = None
    events: list[tuple[EventKind, dict[str, Any]]] = field(default_factory=list)

    async def emit(self, kind: EventKind, data: dict[str, Any]) -> None:
        self.events.append((kind, data))

    async def agent(self, script: str) -> Completed:
        """Act as the agent: run a shell script in the sandbox, and insist that it worked."""
        done = await self.sandbox.run(["sh", "-ec", script], env={"GIT_CONFIG_NOSYSTEM": "1"})
        assert done.returncode == 0, done.stderr.decode()
        return done

    async def finish(self) -> str:
        """Commit, collect and push; return the commit."""
        await self.workspace.commit_leftovers("Work of the agent")
        assert await self.workspace.collect() is not None
        return (await self.workspace.push()).sha

    def logged(self) -> str:
        return "\n".join(data["text"] for kind, data in self.events if kind is EventKind.LOG)

    def warnings(self) -> list[str]:
        return [data["code"] for kind, data in self.events if kind is EventKind.WARNING]

    def event(self, wanted: EventKind) -> dict[str, Any]:
        return next(data for kind, data in self.events if kind is wanted)


class Server(Protocol):
    """Git server on this machine."""

    @property
    def ca_file(self) -> Path: ...

    def url(self, name: str) -> str: ...


@dataclass(frozen=True)
class Folder:
    """Repositories in a folder of this machine, which git reads and writes by their paths.

    A job takes less than half of the time that it takes with a server over TLS.
    """

    root: Path
    ca_file: Path = Path(os.devnull)

    def url(self, name: str) -> str:
        return f"file://{self.root / name}"


class Jobs:
    """Factory of jobs with a repository of a server or a folder, which also closes their sandboxes."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server = server
        self._directory = directory
        self.object_cache = directory / "kept"
        self._made: list[Job] = []

    def __call__(
        self,
        url: str | None = None,
        branch: str = "feature/ai",
        base: str | None = "main",
        token: str | None = TOKEN,
        resolver: Resolver = resolve_host,
        limits: ResourceLimits | None = None,
        allow_ci_files: bool = False,
        allow_default_branch: bool = False,
        has_image: bool = False,
        tenant: str | None = "acme",
        isolated: bool = True,
        **policy: Any,
    ) -> Job:
        job_dir = self._directory / f"job-{len(self._made)}"
        job_dir.mkdir()
        image = DiskImage(job_dir, limits or ResourceLimits()) if has_image else None
        sandbox = Sandbox(SandboxConfig(limits or ResourceLimits(), AGENT_UID, isolated=isolated), job_dir)
        settings: dict[str, Any] = {
            "allowed_private_hosts": frozenset({"localhost"}),
            "ca_file": self._server.ca_file,
            "object_cache": self.object_cache,
            "push_retry_s": 0,
            "file_roots": (str(self._server.root),) if isinstance(self._server, Folder) else (),
        }
        address = url or self._server.url("repo.git")
        spec = RepoSpec(address, base, branch, token, allow_ci_files, allow_default_branch, tenant)

        async def emit(kind: EventKind, data: dict[str, Any]) -> None:
            await job.emit(kind, data)

        workspace = Workspace(spec, sandbox, job_dir, GitPolicy(**settings | policy), emit, resolver)
        job = Job(workspace, sandbox, job_dir, image)
        self._made.append(job)
        return job

    async def close(self) -> None:
        for job in self._made:
            await job.workspace.close()
            await job.sandbox.close()
            if job.image is not None:
                job.image.close()
