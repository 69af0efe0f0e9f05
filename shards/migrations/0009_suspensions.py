"""Python names of suspensions; the table and its columns stay as they are."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

NAMES = ("closure_of_one_thing", "one_open_drain_a_shard", "one_open_pause_a_pool", "one_open_pause_a_class")


class Migration(migrations.Migration):
    dependencies = [("shards", "0008_alerts")]

    operations = [
        migrations.AlterModelTable("Closure", "shards_closure"),
        # The constraints name the fields: the same conditions in the database, so their state alone changes.
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveConstraint("Closure", name) for name in NAMES]
        ),
        migrations.RenameModel("Closure", "Suspension"),
        migrations.AlterField(
            "Suspension",
            "shard",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="suspensions",
                to="shards.shard",
            ),
        ),
        migrations.AlterField(
            "Suspension",
            "pool",
            models.ForeignKey(
                blank=True,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="suspensions",
                to="shards.pool",
            ),
        ),
        migrations.AlterField("Suspension", "closed_by", models.CharField(db_column="closed_by", max_length=150)),
        migrations.RenameField("Suspension", "closed_by", "suspended_by"),
        migrations.AlterField(
            "Suspension",
            "closed_at",
            models.DateTimeField(
                db_column="closed_at", db_default=django.db.models.functions.datetime.Now(), editable=False
            ),
        ),
        migrations.RenameField("Suspension", "closed_at", "suspended_at"),
        migrations.AlterField(
            "Suspension", "reopened_by", models.CharField(blank=True, db_column="reopened_by", max_length=150)
        ),
        migrations.RenameField("Suspension", "reopened_by", "resumed_by"),
        migrations.AlterField(
            "Suspension",
            "reopened_at",
            models.DateTimeField(blank=True, db_column="reopened_at", editable=False, null=True),
        ),
        migrations.RenameField("Suspension", "reopened_at", "resumed_at"),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddConstraint(
                    "Suspension",
                    models.CheckConstraint(
                        condition=models.Q(("pool__isnull", True), ("shard__isnull", False), ("shard_class", ""))
                        | models.Q(("pool__isnull", False), ("shard__isnull", True), ("shard_class", ""))
                        | models.Q(
                            ("pool__isnull", True),
                            ("shard__isnull", True),
                            models.Q(("shard_class", ""), _negated=True),
                        ),
                        name="closure_of_one_thing",
                        violation_error_message="Suspend a shard, a pool or a class, one of them.",
                    ),
                ),
                *(
                    migrations.AddConstraint(
                        "Suspension",
                        models.UniqueConstraint(
                            condition=models.Q(("resumed_at", None), models.Q((field, empty), _negated=True)),
                            fields=(field,),
                            name=name,
                        ),
                    )
                    for field, empty, name in (
                        ("shard", None, "one_open_drain_a_shard"),
                        ("pool", None, "one_open_pause_a_pool"),
                        ("shard_class", "", "one_open_pause_a_class"),
                    )
                ),
            ]
        ),
    ]
