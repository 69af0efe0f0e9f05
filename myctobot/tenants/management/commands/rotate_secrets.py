"""``manage.py rotate_secrets``: after a new key was put first in ``SECRETS_KEYS``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from myctobot.tenants.key_rotation import rotate, sealed_models

_NAMED = 10


class Command(BaseCommand):
    help = "Seal every stored secret anew with the first key of SECRETS_KEYS. When it succeeds the old ones can go."

    def handle(self, *args: Any, **options: Any) -> None:
        found = rotate(sealed_models())
        self.stdout.write(f"Sealed {found.done} row(s) with the newest key.")
        if found.lost:
            named = ", ".join(found.lost[:_NAMED]) + (" …" if len(found.lost) > _NAMED else "")
            raise CommandError(
                f"No key of SECRETS_KEYS opens {len(found.lost)} row(s): {named}. Put the key that sealed them back "
                "into SECRETS_KEYS and run this again, or store those secrets anew."
            )
