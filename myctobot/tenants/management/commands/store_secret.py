"""``manage.py store_secret``: store a secret that jobs refer to by its name."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.tenants.management.base import TenantCommand, check_slug, find_tenant
from myctobot.tenants.secrets import store_secret

# The API has the same minimum, because a shorter secret cannot be masked in a job's output.
MIN_LENGTH = 8
MAX_LENGTH = 20_000
_MAX_NAME = 60


class Command(TenantCommand):
    help = "Store or replace a tenant's secret. Its value is read from standard input, never from an argument."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help='name for jobs: {"repo_token": {"secret": "NAME"}}')

    def handle(self, *args: Any, **options: Any) -> None:
        name = check_slug(options["name"], "--name", _MAX_NAME)
        tenant = find_tenant(options["tenant"])
        store_secret(tenant, name, check_value(read_value(name)))
        self.stderr.write(f"Stored '{name}' of {tenant.slug}, sealed.")


def read_value(name: str) -> str:
    """Ask for the value without showing it, or read it from a pipe or file."""
    if sys.stdin.isatty():
        return getpass.getpass(f"Value of '{name}' (not shown): ")
    return sys.stdin.read(MAX_LENGTH + 2)


def check_value(text: str) -> str:
    """Return the value without the line end that ``echo`` or an editor appended.

    A key of several lines keeps its last line end.

    Raises:
        CommandError: no request can carry the value.
    """
    body = text.rstrip("\r\n")
    value = body + "\n" if "\n" in body else body
    if not MIN_LENGTH <= len(value) <= MAX_LENGTH:
        raise CommandError(f"The value has {len(value)} characters; it must have {MIN_LENGTH} to {MAX_LENGTH}.")
    if not value.isascii() or "\x00" in value:
        raise CommandError("The value must be ASCII text.")
    return value
