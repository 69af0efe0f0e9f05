"""``manage.py lxc``: what containers need of this host, and the templates that they are made from."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from myctobot.errors import InvalidRequest, MyctobotError
from shards.providers.base import ContainerState, Silent
from shards.providers.lxc import archive, network, role, storage, template
from shards.providers.lxc.chroot import Chroot
from shards.providers.lxc.commands import ENVIRONMENT
from shards.providers.lxc.host import Host
from shards.providers.lxc.provider import LxcProvider

_CONFIGURE_TIMEOUT_S = 3600


class Command(BaseCommand):
    help = "Set up this host for LXC containers, look at it, and build templates. Settings: LXC_*, EGRESS_*."
    # No database is needed, and nothing of Django is served here.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("setup", help="make the bridge, load the rules, reserve user numbers; harmless again")
        down = actions.add_parser("teardown", help="remove what setup made")
        down.add_argument("--with-containers", action="store_true", help="destroy all containers first")
        actions.add_parser("status", help="say what is missing, and list templates and containers")
        _add_template_actions(actions.add_parser("template", help="build, list and remove templates"))

    def handle(self, *args: Any, **options: Any) -> None:
        action = "template_" + options["template_action"] if options["action"] == "template" else options["action"]
        try:
            getattr(self, action)(LxcProvider(), **options)
        except ImproperlyConfigured as error:
            raise CommandError(f"{error}.") from error
        except InvalidRequest as error:
            said = " ".join(f"{name}: {' '.join(problems)}" for name, problems in error.fields.items())
            raise CommandError(said or str(error)) from error
        except MyctobotError as error:
            raise CommandError(str(error)) from error

    def setup(self, provider: LxcProvider, **options: Any) -> None:
        _as_root()
        host = provider.host
        network.set_up(host)
        ports = ", ".join(f"{address}:{port}" for address, port in host.allowed) or "nothing"
        self.stdout.write(
            f"The bridge {host.bridge} has {host.address}. Containers reach {ports} and the proxy on port "
            f"{host.egress_port} ('manage.py egress_proxy' runs it)."
        )

    def teardown(self, provider: LxcProvider, **options: Any) -> None:
        _as_root()
        found = provider.list()
        if options["with_containers"]:
            for one in found:
                provider.destroy(one.ref, Silent())
        elif running := [one.name for one in found if one.state is not ContainerState.STOPPED]:
            raise CommandError(f"These run: {', '.join(running)}. Stop them first, or give --with-containers.")
        network.tear_down(provider.host)
        self.stdout.write(f"The bridge {provider.host.bridge}, its rules and the user numbers are gone.")

    def status(self, provider: LxcProvider, **options: Any) -> None:
        for problem in provider.problems():
            self.stdout.write(f"problem: {problem}")
        for name in storage.templates(provider.host.path):
            made = template.manifest(provider.host.path / "templates" / name)
            about = f"built {made.built_at}, {len(made.packages)} packages, inputs {made.digest}" if made else "by hand"
            self.stdout.write(f"template {name}: {about}")
        for one in provider.list():
            self.stdout.write(f"container {one.ref}: {one.state}, {provider.status(one.ref).address}")

    def template_build(self, provider: LxcProvider, **options: Any) -> None:
        _as_root()
        command = options["configure"]
        variables = {
            **role.of_type(options["name"]),
            **_fence(provider.host),
            **dict(map(_variable, options["var"])),
        }
        made = template.build(
            provider.host.path,
            options["name"],
            packages=options["package"],
            inputs=options["inputs"] or ("" if command or options["bare"] else role.inputs(variables)),
            again=options["again"],
            configure=_way_to_configure(command, variables, options["bare"], self),
        )
        self.stdout.write(f"Template {made.name}: built {made.built_at}, {len(made.packages)} packages.")

    def template_export(self, provider: LxcProvider, **options: Any) -> None:
        _as_root()
        made = archive.export(provider.host.path, options["name"], options["file"].absolute())
        self.stdout.write(f"{made.path}: {made.size // 1024 // 1024} MB, sha256 {made.sha256}")

    def template_list(self, provider: LxcProvider, **options: Any) -> None:
        for name in storage.templates(provider.host.path):
            self.stdout.write(name)

    def template_remove(self, provider: LxcProvider, **options: Any) -> None:
        _as_root()
        template.remove(provider.host.path, options["name"])


def _add_template_actions(parser: Any) -> None:
    actions = parser.add_subparsers(dest="template_action", required=True)
    build = actions.add_parser("build", help="build a template, unless there is one of the same inputs")
    build.add_argument("name", help="that of a type, such as general, has it made as ansible/types says")
    build.add_argument("--package", action="append", default=[], help="a Debian package more; may be repeated")
    build.add_argument(
        "--configure",
        metavar="PROGRAM",
        help="instead of the Ansible role 'shard': a program that configures it by SSH; it gets BUILD_SSH_HOST, "
        "BUILD_SSH_PORT, BUILD_SSH_KEY_FILE and BUILD_SSH_KNOWN_HOSTS_FILE",
    )
    build.add_argument("--bare", action="store_true", help="configure nothing: a Debian that boots")
    build.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the role 'shard': JSON, such as true or [\"10.0.0.1:443\"], or text; may be repeated",
    )
    build.add_argument("--inputs", default="", help="what the program goes by; another text means another build")
    build.add_argument("--again", action="store_true", help="build even though nothing changed")
    export = actions.add_parser("export", help="write a template as an archive that Proxmox takes as ostemplate")
    export.add_argument("name")
    export.add_argument("file", type=Path, help="ends with .tar.zst")
    actions.add_parser("list", help="the names of all templates")
    actions.add_parser("remove", help="forget a template").add_argument("name")


def _variable(text: str) -> tuple[str, Any]:
    """Read ``name=value``: Ansible takes a text for no list and for no truth."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _fence(host: Host) -> dict[str, Any]:
    """The fence within: agents may call the gateway, and root what this host serves; where that is known."""
    urls = (settings.SHARD_CONTROL_URL, settings.GATEWAY_URL, settings.SHARD_BROKER_URL)
    # Half a fence would shut the worker in.
    if any(urlsplit(url).hostname != str(host.address) for url in urls):
        return {}
    allowed = [*host.allowed, (host.address, host.egress_port)]
    return {
        "shard_fence_root": [f"{address}:{port}" for address, port in allowed],
        "shard_fence_agents": [urlsplit(settings.GATEWAY_URL).netloc],
    }


class _Printed:
    """A journal on the terminal, with the time that has passed.

    Args:
        command: writes.
    """

    def __init__(self, command: BaseCommand) -> None:
        self._command, self._began = command, time.monotonic()

    def step(self, text: str) -> None:
        self._command.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def ref(self, ref: str) -> None:
        """A template has none."""


def _way_to_configure(
    program: str | None, variables: dict[str, Any], is_bare: bool, command: BaseCommand
) -> Callable[[Chroot], None] | None:
    if program:
        return lambda chroot: _configure(chroot, program)
    return None if is_bare else lambda chroot: role.make_shard(chroot, variables, _Printed(command))


def _configure(chroot: Chroot, program: str) -> None:
    """Let a program of this host configure the template.

    Raises:
        CommandError: it failed.
    """
    with chroot.reached_by_ssh() as ssh:
        way = {
            "BUILD_SSH_HOST": ssh.host,
            "BUILD_SSH_PORT": str(ssh.port),
            "BUILD_SSH_KEY_FILE": str(ssh.private_key),
            "BUILD_SSH_KNOWN_HOSTS_FILE": str(ssh.known_hosts),
        }
        done = subprocess.run([program], env={**ENVIRONMENT, **way}, timeout=_CONFIGURE_TIMEOUT_S, check=False)
    if done.returncode:
        raise CommandError(f"'{program}' failed with exit code {done.returncode}; there is no new template.")


def _as_root() -> None:
    if os.geteuid() != 0:
        raise CommandError("Only root can do that.")
