"""Whole stack with shards in real containers, and a git server on the same bridge."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from myctobot.stack.plan import CHECKOUT
from shards.providers.lxc import network, tools
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider
from shards.providers.lxc.records import ContainerFolder
from shards.providers.lxc.storage import unmount_below
from tests.acceptance.client import Client
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.provider_contract import Notes
from tests.fixtures.repos import make_remote
from tests.lxc.templates import shard_template
from tests.stacks import SCRIPTS, RunningStack, bare_environment, running_stack

# The users of containers can traverse this folder.
FOLDER = Path("/var/tmp")
COMMAND_TIMEOUT_S = 240
# A companion runs along with the stack, gets the host of the containers, and yields variables for the stack.
Companion = Callable[[LxcHost], AbstractContextManager[Mapping[str, str]]]


@dataclass(frozen=True)
class World:
    """Running stack with its client, its containers and its git server."""

    stack: RunningStack
    client: Client
    maker: LxcProvider
    git: GitServer
    remotes: Path
    environ: Mapping[str, str] = field(repr=False)

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``manage.py`` with the stack's environment."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=CHECKOUT,
            env=bare_environment(self.stack.home, self.environ),
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{done.stdout}\n{done.stderr}"
        return done

    def operate(self, *arguments: str) -> None:
        self.manage("shards", *arguments, "--wait", "--by", "anna")

    def listed(self, name: str) -> dict[str, Any]:
        """Return a shard as ``manage.py shards list`` shows it."""
        rows: list[dict[str, Any]] = json.loads(self.manage("shards", "list", "--json").stdout.splitlines()[-1])
        return next(row for row in rows if row["name"] == name)

    def shard(self, name: str) -> dict[str, Any]:
        """Read a shard's state, reason and container from the database, which is a second faster than ``listed``."""
        lines = (self.stack.home / "env").read_text().splitlines()
        url = next(line.removeprefix("DATABASE_URL=") for line in lines if line.startswith("DATABASE_URL="))
        query = "SELECT state, state_reason AS reason, provider_ref AS ref FROM shards_shard WHERE name = %s"
        with psycopg.connect(url) as connection, connection.cursor(row_factory=dict_row) as cursor:
            (row,) = cursor.execute(query, [name]).fetchall()
        return row

    def kill(self, ref: str) -> None:
        """Kill a container, as a power cut does."""
        tools.stop(ContainerFolder(self.maker.host.path / "containers" / ref), 0)

    def remote(self, name: str) -> tuple[Path, str]:
        """Create a repository that shards can reach; return its path on this host and its URL."""
        path = make_remote(self.remotes / name, {"README.md": "# Example\n"})
        return path, self.git.url(name, host=str(self.maker.host.address))


@contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """Create a folder for a world that the users of containers can traverse; one world of a name runs at a time.

    The leftovers of a killed run of this world are removed first, because they use the same bridge and addresses.
    """
    prefix = f"myctobot-{name}-"
    with (FOLDER / f"{prefix}lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in FOLDER.glob(f"{prefix}*/"):
            remove_leftovers(left)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=FOLDER, ignore_cleanup_errors=True) as made:
            folder = Path(made)
            folder.chmod(0o711)
            yield folder


def remove_leftovers(folder: Path) -> None:
    """Remove a folder of a killed run with its running stack, its containers and its mounts."""
    mark = f"MYCTOBOT_HOME={folder}/".encode()
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and mark in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
    for path in (folder, folder / "lxc"):
        for one in (path / "containers").glob("[!.]*"):
            tools.stop(ContainerFolder(one), 0)
    unmount_below(folder)
    shutil.rmtree(folder)


@contextmanager
def running_world(
    folder: Path,
    *,
    bridge: str,
    net: str,
    first_id: int,
    images: Sequence[str] = ("general",),
    kind: str = "general",
    companion: Companion = lambda host: nullcontext({}),
) -> Iterator[World]:
    """Start a stack whose shards are containers on a bridge of their own, and remove everything after the block.

    Args:
        folder: folder for all files; see ``own_folder``.
        bridge, net, first_id: bridge, network and first user number, which nothing else may use.
        images, kind: names of the template, and its type.
        companion: runs as long as the stack and slightly longer; its LXC_ALLOWED is added to that of the stack.
    """
    path = folder / "lxc"
    path.mkdir(mode=0o711)
    environ = {"LXC_PATH": str(path), "LXC_BRIDGE": bridge, "LXC_NETWORK": net, "LXC_FIRST_ID": str(first_id)}
    address = str(IPv4Network(net)[1])
    bare = LxcHost(path=path, owner="myctobot", bridge=bridge, network=IPv4Network(net), first_id=first_id)
    remotes = folder / "remotes"
    remotes.mkdir()
    shard_template(path, *images, kind=kind)
    try:
        network.set_up(bare)
        with serve(remotes, folder, host=address) as git, companion(bare) as more:
            certificate = folder / "ca.pem"
            certificate.write_text(_certificate_in(git.ca_file.read_text()))
            allowed = ",".join(filter(None, (f"{address}:{git.port}", more.get("LXC_ALLOWED"))))
            environ |= {
                "REPO_PRIVATE_HOSTS": address,
                "SHARD_GIT_CA_FILE": str(certificate),
                "GATEWAY_SCRIPTS": str(SCRIPTS),
                "EGRESS_ALLOWED_HOSTS": "allowed.invalid",
                **more,
                "LXC_ALLOWED": allowed,
            }
            options = ("--listen", address, "--without", "shard", "--with", "egress")
            with running_stack(folder / "home", *options, environ=environ) as stack, Client(stack) as client:
                world = World(stack, client, LxcProvider(bare), git, remotes, environ)
                # The rules open the ports of the stack, which are known only now.
                world.manage("lxc", "setup")
                yield world
    finally:
        maker = LxcProvider(bare)
        for one in maker.list():
            maker.destroy(one.ref, Notes())
        network.tear_down(bare)


def _certificate_in(pem: str) -> str:
    return pem[pem.index("-----BEGIN CERTIFICATE-----") :]
