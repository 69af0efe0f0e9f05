"""``manage.py rotate_secrets``: seal every secret with the first key of ``SECRETS_KEYS``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myctobot.tenants.key_rotation import rotate, sealed_models

_NAMED = 10


class Command(BaseCommand):
    help = "Seal every stored secret with the first key of SECRETS_KEYS. Then remove the old keys."

    def handle(self, *args: Any, **options: Any) -> None:
        found = rotate(sealed_models())
        self.stdout.write(f"Sealed {found.done} row(s) with the newest key.")
        if found.lost:
            named = ", ".join(found.lost[:_NAMED]) + (" …" if len(found.lost) > _NAMED else "")
            raise CommandError(
                f"No key of SECRETS_KEYS opens {len(found.lost)} row(s): {named}. Put the key that sealed them back "
                "into SECRETS_KEYS and run this command again, or store these secrets again."
            )
