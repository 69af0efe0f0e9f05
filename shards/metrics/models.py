"""Table of accumulated counts."""

from __future__ import annotations

from django.db import models


class Total(models.Model):
    """Accumulated counts of one source up to a moment; later rows are counted in their own tables.

    ``counts`` maps keys to numbers, such as {"completed": 12}.
    """

    name = models.CharField(max_length=40, unique=True)
    counted_until = models.DateTimeField()
    counts = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name} until {self.counted_until:%Y-%m-%d %H:%M:%S}"
