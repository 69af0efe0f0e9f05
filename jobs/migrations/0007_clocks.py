"""Indexes for the clocks of fair share: who waits, and which attempts ended since the last look."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0006_callbacks"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("hold", ""), ("status", "queued")), fields=["tenant"], name="tenants_in_line"
            ),
        ),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", False)), fields=["ended_at"], name="attempts_by_their_end"
            ),
        ),
    ]
