"""Command ``manage.py up``: run all of MyCTOBot on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from myctobot.env import HOME
from myctobot.stack.console import StackConsole
from myctobot.stack.environment import caller_environment
from myctobot.stack.errors import StackError
from myctobot.stack.plan import EXTRA, OPTIONAL
from myctobot.stack.ports import LOOPBACK
from myctobot.stack.up import GATEWAY_PORT, SHARD_API_PORT, WEB_PORT, UpOptions, run


class Command(BaseCommand):
    help = "Run PostgreSQL, Redis, web, gateway, control worker, beat and local shards until Ctrl-C."
    # System checks need a database, which does not run yet.
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--shards", type=int, default=1, help="how many shards to run on this host (default 1)")
        parser.add_argument(
            "--web-processes",
            type=int,
            default=1,
            metavar="N",
            help="number of web processes on the web port (default 1)",
        )
        parser.add_argument(
            "--without", action="append", default=[], metavar="NAME", choices=OPTIONAL, help="do not run this process"
        )
        parser.add_argument(
            "--with",
            action="append",
            default=[],
            metavar="NAME",
            choices=EXTRA,
            help="also run this process: flower, egress",
        )
        parser.add_argument(
            "--ready-file",
            type=Path,
            metavar="PATH",
            help="write URLs and credentials to this file (JSON) when all processes answer",
        )
        parser.add_argument("--web-port", type=int, default=WEB_PORT, help="preferred port of the web processes")
        parser.add_argument("--gateway-port", type=int, default=GATEWAY_PORT, help="preferred port of the gateway")
        parser.add_argument(
            "--allow-unsandboxed",
            action="store_true",
            help="run jobs without a sandbox if bubblewrap does not work here; every page then warns",
        )
        parser.add_argument(
            "--one-user",
            action="store_true",
            help="if root starts the stack: let all programs run as root, so that each can read all secrets",
        )
        parser.add_argument(
            "--give-up-after",
            type=int,
            metavar="N",
            help="end the stack after N failed starts of one process in a row (default: try again without end)",
        )
        parser.add_argument(
            "--shard-api-port",
            type=int,
            metavar="PORT",
            help="run a process for the shard API alone, on this preferred port; with several web processes there is "
            f"always one (default port {SHARD_API_PORT})",
        )
        parser.add_argument(
            "--listen",
            default=LOOPBACK,
            metavar="ADDRESS",
            help="address on which shards in containers reach web, gateway and broker (default 127.0.0.1)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["web_processes"] < 1:
            raise CommandError("--web-processes: must be 1 or more; to run none, use --without web.")
        if options["give_up_after"] is not None and options["give_up_after"] < 1:
            raise CommandError("--give-up-after: must be 1 or more; leave it out to try again without end.")
        wanted = UpOptions(
            home=HOME,
            shards=options["shards"],
            web_processes=options["web_processes"],
            without=frozenset(options["without"]),
            extra=frozenset(options["with"]),
            ready_file=options["ready_file"].resolve() if options["ready_file"] else None,
            web_port=options["web_port"],
            gateway_port=options["gateway_port"],
            shard_api_port=options["shard_api_port"],
            listen=_address(options["listen"]),
            allow_unsandboxed=options["allow_unsandboxed"],
            one_user=options["one_user"],
            give_up_after=options["give_up_after"],
            caller=caller_environment(),
        )
        console = StackConsole(sys.stdout)
        try:
            asyncio.run(run(wanted, console))
        except StackError as error:
            for line in error.message.splitlines():
                console.say(line)
            sys.exit(error.exit_code)


def _address(text: str) -> str:
    try:
        address = IPv4Address(text)
    except ValueError:
        raise CommandError(f"--listen: {text!r} is not an IPv4 address, such as 10.213.0.1.") from None
    if address.is_unspecified or address.is_global:
        raise CommandError(
            "--listen: must be a loopback or private address; for others, use a proxy with TLS in front."
        )
    return str(address)
