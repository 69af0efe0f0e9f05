"""``manage.py create_api_key``: create a key for the REST API and print it once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.db import transaction
from django.utils import timezone

from myctobot.tenants.audit import record
from myctobot.tenants.management.base import TenantCommand, find_tenant
from myctobot.tenants.models import ApiKey, Role

_MAX_NAME = 100
_MAX_DAYS = 3650


class Command(TenantCommand):
    help = "Create an API key. Only the key goes to standard output, so that a shell can store it in a variable."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--name", required=True, help="purpose of the key, such as my-laptop")
        parser.add_argument("--role", choices=Role.values, default=Role.MEMBER.value, help="rights of the key")
        parser.add_argument("--days", type=int, help="days until the key expires; without it the key does not expire")

    def handle(self, *args: Any, **options: Any) -> None:
        name, days = options["name"].strip(), options["days"]
        if not 1 <= len(name) <= _MAX_NAME:
            raise CommandError(f"--name must have 1 to {_MAX_NAME} characters.")
        if days is not None and not 1 <= days <= _MAX_DAYS:
            raise CommandError(f"--days must be from 1 to {_MAX_DAYS}.")
        expires_at = timezone.now() + timedelta(days=days) if days else None
        until = f"until {expires_at:%Y-%m-%d}" if expires_at else "until it is revoked"
        tenant = find_tenant(options["tenant"])
        with transaction.atomic():
            row, key = ApiKey.create(tenant, name, role=options["role"], expires_at=expires_at)
            details = {"prefix": row.prefix, "role": row.role, "valid": until}
            record("manage.py create_api_key", "api-key.created", f"api-key/{row}", details, tenant=tenant)
        self.stderr.write(f"'{row.name}' ({row.prefix}…), {row.role}, valid {until}. The key is shown only this time.")
        self.stdout.write(key)
