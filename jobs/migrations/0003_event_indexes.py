"""Indexes for readers of events and for the removal of what is old; apart, since they read what 0002 wrote."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0002_event_lines")]

    operations = [
        migrations.AddIndex("eventbatch", models.Index(fields=["job", "last_seq"], name="batches_by_their_end")),
        migrations.AddIndex(
            "job",
            models.Index(
                condition=models.Q(finished_at__isnull=False), fields=["finished_at"], name="jobs_by_their_end"
            ),
        ),
        migrations.AddIndex(
            "job", models.Index(condition=models.Q(log_bytes__gt=0), fields=["finished_at"], name="jobs_with_a_log")
        ),
    ]
