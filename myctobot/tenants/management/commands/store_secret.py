"""``manage.py store_secret``: store a secret that jobs refer to by its name."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import CommandError, CommandParser

from myctobot.errors import InvalidRequest
from myctobot.tenants.audit import record
from myctobot.tenants.management.base import TenantCommand, check_slug, find_tenant
from myctobot.tenants.models import Role
from myctobot.tenants.secret_bindings import SecretBinding, SecretPurpose, host_list
from myctobot.tenants.secrets import MAX_NAME_LENGTH, store_secret

# The API has the same minimum, because a shorter secret cannot be masked in a job's output.
MIN_LENGTH = 8
MAX_LENGTH = 20_000
_OPTION_OF_FIELD = {"purpose": "--purpose", "hosts": "--host"}


class Command(TenantCommand):
    help = "Store or replace a tenant's secret. Its value is read from standard input, never from an argument."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help='name for jobs: {"repo_token": {"secret": "NAME"}}')
        parser.add_argument(
            "--purpose",
            choices=[purpose.value for purpose in SecretPurpose if purpose != SecretPurpose.UNBOUND],
            help="what the secret is for; without it the binding stays, and a new secret is for admins only",
        )
        parser.add_argument(
            "--host",
            action="append",
            default=[],
            metavar="HOST",
            help="for a repository: host that the secret may be sent to, such as github.com, git.example.com:8443 or "
            "*.example.com; repeat it for more",
        )
        parser.add_argument(
            "--min-role",
            choices=[Role.MEMBER.value, Role.ADMIN.value],
            help="lowest role that may use it (default: member)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        name = check_slug(options["name"], "--name", MAX_NAME_LENGTH)
        tenant = find_tenant(options["tenant"])
        binding = _binding_of(options)
        try:
            row = store_secret(tenant, name, check_value(read_value(name)), binding)
        except InvalidRequest as error:
            problems = [f"{_OPTION_OF_FIELD[field]}: {' '.join(texts)}" for field, texts in error.fields.items()]
            raise CommandError(" ".join(problems)) from error
        record("manage.py store_secret", "secret.stored", f"secret/{row}", {"purpose": row.purpose}, tenant=tenant)
        self.stderr.write(f"Stored '{name}' of {tenant.slug}, sealed.")
        if row.purpose == SecretPurpose.UNBOUND:
            self.stderr.write("It is not bound, so only admins can use it. Bind it with --purpose, and --host.")


def _binding_of(options: dict[str, Any]) -> SecretBinding | None:
    if options["purpose"] is None:
        if options["host"] or options["min_role"]:
            raise CommandError("--host and --min-role need --purpose.")
        return None
    hosts = host_list(" ".join(options["host"]))
    return SecretBinding(SecretPurpose(options["purpose"]), hosts, options["min_role"] or Role.MEMBER.value)


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
