"""What was counted before it went."""

from __future__ import annotations

from django.db import models


class Total(models.Model):
    """How many there ever were of something, up to a moment; what came later is counted where it is.

    ``counts`` has a number by key, such as {"completed": 12}.
    """

    name = models.CharField(max_length=40, unique=True)
    counted_until = models.DateTimeField()
    counts = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name} until {self.counted_until:%Y-%m-%d %H:%M:%S}"
