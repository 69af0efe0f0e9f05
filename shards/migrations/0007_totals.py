"""Counts that outlive what is counted, and indexes by which the rest of it is found."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shards", "0006_used")]

    operations = [
        migrations.CreateModel(
            name="Total",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40, unique=True)),
                ("counted_until", models.DateTimeField()),
                ("counts", models.JSONField(default=dict)),
            ],
        ),
        migrations.AddIndex(
            model_name="operation",
            index=models.Index(
                fields=["ended_at"], condition=models.Q(ended_at__isnull=False), name="operations_by_their_end"
            ),
        ),
        migrations.AddIndex(model_name="statechange", index=models.Index(fields=["at"], name="changes_by_time")),
        migrations.AddIndex(model_name="scalingdecision", index=models.Index(fields=["at"], name="decisions_by_time")),
    ]
