"""``manage.py lxc``: setup of this host for LXC containers, and management of templates."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from myctobot.errors import InvalidRequest, MyctobotError
from shards.providers.base import ContainerState, NullJournal
from shards.providers.lxc import archive, layers, network, role, storage, template
from shards.providers.lxc.chroot import Chroot
from shards.providers.lxc.commands import ENVIRONMENT
from shards.providers.lxc.host import LxcHost
from shards.providers.lxc.provider import LxcProvider

_CONFIGURE_TIMEOUT_S = 3600


class Command(BaseCommand):
    help = "Set up this host for LXC containers, show its status, and build templates. Settings: LXC_*, EGRESS_*."
    # The command needs neither the database nor the web application.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("setup", help="create the bridge, load the rules, reserve user ids; repeatable")
        down = actions.add_parser("teardown", help="undo setup")
        down.add_argument("--with-containers", action="store_true", help="destroy all containers first")
        actions.add_parser("status", help="list problems, templates and containers")
        _add_template_actions(actions.add_parser("template", help="build, list and remove templates"))

    def handle(self, *args: Any, **options: Any) -> None:
        action = "template_" + options["template_action"] if options["action"] == "template" else options["action"]
        try:
            getattr(self, action)(LxcProvider(), **options)
        except ImproperlyConfigured as error:
            raise CommandError(f"{error}.") from error
        except InvalidRequest as error:
            message = " ".join(f"{name}: {' '.join(problems)}" for name, problems in error.fields.items())
            raise CommandError(message or str(error)) from error
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
                provider.destroy(one.ref, NullJournal())
        elif running := [one.name for one in found if one.state is not ContainerState.STOPPED]:
            raise CommandError(f"Running containers: {', '.join(running)}. Stop them, or use --with-containers.")
        network.tear_down(provider.host)
        self.stdout.write(f"The bridge {provider.host.bridge}, its rules and the user ids are removed.")

    def status(self, provider: LxcProvider, **options: Any) -> None:
        for problem in provider.problems():
            self.stdout.write(f"problem: {problem}")
        for name in storage.templates(provider.host.path):
            made = layers.manifest(provider.host.path / "templates" / name)
            about = f"built {made.built_at}, {len(made.packages)} packages, inputs {made.digest}" if made else "custom"
            self.stdout.write(f"template {name}: {about}")
        for one in provider.list():
            self.stdout.write(f"container {one.ref}: {one.state}, {provider.status(one.ref).address}")

    def template_build(self, provider: LxcProvider, **options: Any) -> None:
        _as_root()
        root, name, again = provider.host.path, options["name"], options["again"]
        packages, inputs = options["package"], options["inputs"]
        if program := options["configure"]:
            made = template.build(
                root,
                name,
                packages=packages,
                inputs=inputs,
                again=again,
                configure=lambda chroot: _configure(chroot, program),
            )
        elif options["bare"]:
            made = template.build(root, name, packages=packages, inputs=inputs, again=again)
        else:
            variables = {**role.of_type(name), **_fence(provider.host), **dict(map(_variable, options["var"]))}
            journal = _Printed(self)
            made = role.build(root, name, variables, journal, packages=packages, inputs=inputs, again=again)
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
    build = actions.add_parser("build", help="build a template, unless one with the same inputs exists")
    build.add_argument("name", help="name; for a type such as general, ansible/types has its variables")
    build.add_argument("--package", action="append", default=[], help="additional Debian package; may be repeated")
    build.add_argument(
        "--configure",
        metavar="PROGRAM",
        help="program that configures the template by SSH instead of the Ansible role 'shard'; it gets the variables "
        "BUILD_SSH_HOST, BUILD_SSH_PORT, BUILD_SSH_KEY_FILE and BUILD_SSH_KNOWN_HOSTS_FILE",
    )
    build.add_argument("--bare", action="store_true", help="configure nothing, so that the template is a plain Debian")
    build.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="variable of the role 'shard': JSON, such as true or [\"10.0.0.1:443\"], or text; may be repeated",
    )
    build.add_argument("--inputs", default="", help="version of the program's inputs; a change causes a build")
    build.add_argument("--again", action="store_true", help="build even if nothing changed")
    export = actions.add_parser("export", help="write a template as an archive that Proxmox accepts as ostemplate")
    export.add_argument("name")
    export.add_argument("file", type=Path, help="file name that ends with .tar.zst")
    actions.add_parser("list", help="list the names of all templates")
    actions.add_parser("remove", help="remove a template").add_argument("name")


def _variable(text: str) -> tuple[str, Any]:
    """Parse ``name=value``; JSON values keep their type, which Ansible needs for lists and booleans."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _fence(host: LxcHost) -> dict[str, Any]:
    """Return the firewall rules within containers: agents may call the gateway, root the services of this host."""
    urls = (settings.SHARD_CONTROL_URL, settings.GATEWAY_URL, settings.SHARD_BROKER_URL)
    # An incomplete list would cut the worker off from services on other hosts.
    if any(urlsplit(url).hostname != str(host.address) for url in urls):
        return {}
    allowed = [*host.allowed, (host.address, host.egress_port)]
    return {
        "shard_fence_root": [f"{address}:{port}" for address, port in allowed],
        "shard_fence_agents": [urlsplit(settings.GATEWAY_URL).netloc],
    }


class _Printed:
    """Journal that prints steps with the elapsed time.

    Args:
        command: command that prints.
    """

    def __init__(self, command: BaseCommand) -> None:
        self._command, self._began = command, time.monotonic()

    def step(self, text: str) -> None:
        self._command.stdout.write(f"{time.monotonic() - self._began:6.1f} s  {text}")

    def ref(self, ref: str) -> None:
        """Ignore references, because templates have none."""


def _configure(chroot: Chroot, program: str) -> None:
    """Run a program on this host that configures the template.

    Raises:
        CommandError: the program failed.
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
        raise CommandError("This command needs root.")
