"""Drains and pauses, with who, when and why."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shards", "0001_initial"),
    ]

    operations = [
        migrations.CreateModel(
            name="Closure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("shard_class", models.CharField(blank=True, max_length=400)),
                ("reason", models.CharField(max_length=300)),
                ("closed_by", models.CharField(max_length=150)),
                (
                    "closed_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("reopened_by", models.CharField(blank=True, max_length=150)),
                ("reopened_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "pool",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="closures",
                        to="shards.pool",
                    ),
                ),
                (
                    "shard",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="closures",
                        to="shards.shard",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("pool__isnull", True), ("shard__isnull", False), ("shard_class", "")),
                            models.Q(("pool__isnull", False), ("shard__isnull", True), ("shard_class", "")),
                            models.Q(
                                ("pool__isnull", True),
                                ("shard__isnull", True),
                                models.Q(("shard_class", ""), _negated=True),
                            ),
                            _connector="OR",
                        ),
                        name="closure_of_one_thing",
                        violation_error_message="Close a shard, a pool or a class, one of them.",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("reopened_at", None), models.Q(("shard", None), _negated=True)),
                        fields=("shard",),
                        name="one_open_drain_a_shard",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("reopened_at", None), models.Q(("pool", None), _negated=True)),
                        fields=("pool",),
                        name="one_open_pause_a_pool",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("reopened_at", None), models.Q(("shard_class", ""), _negated=True)),
                        fields=("shard_class",),
                        name="one_open_pause_a_class",
                    ),
                ],
            },
        ),
    ]
