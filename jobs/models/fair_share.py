"""Fair-share clocks of the tenants."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class FairShareClocks(models.Model):
    """Fair-share clocks of the tenants: one row, protected by the lock of the dispatch round.

    ``by_tenant`` maps a tenant's id to its lead over the one furthest behind, in slot-seconds over its weight.
    """

    by_tenant = models.JSONField(default=dict, db_column="virtual")
    counted_at = models.DateTimeField(db_default=Now())

    class Meta:
        # The table keeps the name of the first release.
        db_table = "jobs_sharestate"

    def __str__(self) -> str:
        return f"shares as of {self.counted_at}"
