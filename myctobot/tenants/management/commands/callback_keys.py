"""Command ``manage.py callback_keys``: print the keys for a control worker without ``SECRETS_KEYS``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myctobot.tenants.secrets import callback_keys


class Command(BaseCommand):
    help = "Print CALLBACK_KEYS for a control worker without SECRETS_KEYS. Run it again after each change of the keys."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            keys = callback_keys()
        except ValueError as error:
            raise CommandError(f"SECRETS_KEYS is malformed: {error}") from error
        if not keys:
            raise CommandError("SECRETS_KEYS is empty: set it to one or more Fernet keys, newest first.")
        self.stdout.write(f"CALLBACK_KEYS={','.join(keys)}")
