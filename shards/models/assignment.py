"""Table of assignments, which let tenants use shards and pools."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from myctobot.tenants.models import Tenant
from shards.models.pool import Pool
from shards.models.shard import Shard


class Assignment(models.Model):
    """Assignment of a shard or pool to a tenant; the lowest priority number is chosen first."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="assignments")
    shard = models.ForeignKey(Shard, on_delete=models.CASCADE, null=True, blank=True, related_name="assignments")
    pool = models.ForeignKey(Pool, on_delete=models.CASCADE, null=True, blank=True, related_name="assignments")
    priority = models.PositiveSmallIntegerField(default=100)
    is_default = models.BooleanField(default=False)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(shard__isnull=False, pool__isnull=True)
                | models.Q(shard__isnull=True, pool__isnull=False),
                name="assignment_of_a_shard_or_a_pool",
                violation_error_message="Assign either a shard or a pool.",
            ),
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(is_default=True), name="one_default_assignment_a_tenant"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tenant} -> {self.shard or self.pool} ({self.priority})"
