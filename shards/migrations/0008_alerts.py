import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shards", "0007_totals")]

    operations = [
        migrations.RemoveIndex(model_name="statechange", name="alerts_that_are_due"),
        migrations.RemoveField(model_name="statechange", name="alert_due_at"),
        migrations.RemoveField(model_name="statechange", name="alert_tries"),
        migrations.RemoveField(model_name="statechange", name="alerted_at"),
        migrations.CreateModel(
            name="Alert",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=300)),
                ("kind", models.CharField(max_length=40)),
                ("subject", models.CharField(max_length=200)),
                ("text", models.TextField()),
                ("count", models.PositiveIntegerField(default=1)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "ready_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("due_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ("tries", models.PositiveSmallIntegerField(default=0)),
                ("delivered", models.JSONField(blank=True, default=dict)),
                ("failures", models.JSONField(blank=True, default=dict)),
                ("ended_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "part_of",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="parts",
                        to="shards.alert",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("ended_at", None)), fields=["due_at"], name="alerts_to_tell"),
                    models.Index(fields=["key", "-ready_at"], name="alerts_of_a_key"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None), ("tries", 0)),
                        fields=("key",),
                        name="one_untold_alert_a_key",
                    )
                ],
            },
        ),
    ]
