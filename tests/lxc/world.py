"""The whole of MyCTOBot with shards in real containers: a stack on the bridge, and a git server beside it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from myctobot.stack.plan import CHECKOUT
from shards.providers.lxc import network, role, template, tools
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider
from shards.providers.lxc.records import Place
from tests.acceptance.client import Client
from tests.fixtures.git_server import GitServer, serve
from tests.fixtures.provider_contract import Notes
from tests.fixtures.repos import make_remote
from tests.stacks import PLAYS, RunningStack, bare_environment, running_stack

# Templates are kept from run to run: what they are made of decides whether they are made again.
TEMPLATES = Path("/var/cache/myctobot/tests")
COMMAND_TIMEOUT_S = 240
# What runs beside the stack of a world, given the host of its containers, and the stack's variables for it.
Beside = Callable[[Host], AbstractContextManager[Mapping[str, str]]]


@dataclass(frozen=True)
class World:
    """A running stack and what is around it."""

    stack: RunningStack
    client: Client
    maker: LxcProvider
    git: GitServer
    remotes: Path
    environ: Mapping[str, str] = field(repr=False)

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``manage.py`` as an operator on this host does."""
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

    def shard(self, name: str) -> dict[str, Any]:
        rows: list[dict[str, Any]] = json.loads(self.manage("shards", "list", "--json").stdout.splitlines()[-1])
        return next(row for row in rows if row["name"] == name)

    def kill(self, ref: str) -> None:
        """End a container as a power cut does."""
        tools.stop(Place(self.maker.host.path / "containers" / ref), 0)

    def remote(self, name: str) -> tuple[Path, str]:
        """A repository that shards can reach: where it is here, and its URL."""
        path = make_remote(self.remotes / name, {"README.md": "# Example\n"})
        return path, self.git.url(name, host=str(self.maker.host.address))


def shard_template(path: Path, *names: str, kind: str = "general") -> None:
    """Have the template of a shard, made by the Ansible role as ``docs/runbook.md`` builds it for Proxmox before 9.1.

    A first build takes two minutes, so one serves all tests of a type.

    Args:
        names: under which containers are made of it; without any, that of its type.
        kind: the type.
    """
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    kept = "shard" if kind == "general" else f"shard-{kind}"
    variables: dict[str, Any] = {**role.of_type(kind), "shard_ssh": True}
    template.build(
        TEMPLATES,
        kept,
        packages=("ifupdown", "isc-dhcp-client"),
        configure=lambda chroot: role.make_shard(chroot, variables, Notes()),
        inputs=role.inputs(variables),
    )
    (path / "templates").mkdir(mode=0o711, parents=True, exist_ok=True)
    for name in names or (kind,):
        (path / "templates" / name).symlink_to((TEMPLATES / "templates" / kept).resolve())


@contextmanager
def running_world(
    folder: Path,
    *,
    bridge: str,
    net: str,
    first_id: int,
    images: Sequence[str] = ("general",),
    kind: str = "general",
    beside: Beside = lambda host: nullcontext({}),
) -> Iterator[World]:
    """Start a stack whose shards are containers on a bridge of their own; nothing of it stays.

    Args:
        folder: below which all of it lies; users of containers must be able to pass through.
        bridge, net, first_id: of these containers alone.
        images, kind: the names of the template, and its type.
        beside: runs as long as the stack, and a little longer; its LXC_ALLOWED comes beside this one's.
    """
    path = folder / "lxc"
    path.mkdir(mode=0o711)
    environ = {"LXC_PATH": str(path), "LXC_BRIDGE": bridge, "LXC_NETWORK": net, "LXC_FIRST_ID": str(first_id)}
    address = str(IPv4Network(net)[1])
    bare = Host(path=path, owner="myctobot", bridge=bridge, network=IPv4Network(net), first_id=first_id)
    remotes = folder / "remotes"
    remotes.mkdir()
    shard_template(path, *images, kind=kind)
    try:
        network.set_up(bare)
        with serve(remotes, folder, host=address) as git, beside(bare) as more:
            certificate = folder / "ca.pem"
            certificate.write_text(_certificate_in(git.ca_file.read_text()))
            allowed = ",".join(filter(None, (f"{address}:{git.port}", more.get("LXC_ALLOWED"))))
            environ |= {
                "REPO_PRIVATE_HOSTS": address,
                "SHARD_GIT_CA_FILE": str(certificate),
                "GATEWAY_PLAYS": str(PLAYS),
                "EGRESS_ALLOWED_HOSTS": "allowed.invalid",
                **more,
                "LXC_ALLOWED": allowed,
            }
            options = ("--listen", address, "--without", "shard", "--with", "egress")
            with running_stack(folder / "home", *options, environ=environ) as stack, Client(stack) as client:
                world = World(stack, client, LxcProvider(bare), git, remotes, environ)
                # The rules let containers reach what the stack serves, whose ports are known now.
                world.manage("lxc", "setup")
                yield world
    finally:
        maker = LxcProvider(bare)
        for one in maker.list():
            maker.destroy(one.ref, Notes())
        network.tear_down(bare)


def _certificate_in(pem: str) -> str:
    return pem[pem.index("-----BEGIN CERTIFICATE-----") :]
