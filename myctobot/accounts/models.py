"""Table of second factors."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class TotpDevice(models.Model):
    """Authenticator app of a user."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="totp")
    # Key rotation finds sealed columns by this name.
    sealed = models.TextField(editable=False)
    # Each code is valid once: only codes of later steps are accepted.
    last_step = models.BigIntegerField(editable=False)
    recovery_hashes = models.JSONField(default=list, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    def __str__(self) -> str:
        return f"{self.user}'s authenticator app"
