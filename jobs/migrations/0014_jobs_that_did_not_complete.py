"""Index of the jobs that failed or were cancelled, for lists by status."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0013_plain_numbers"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("status__in", ["failed", "cancelled"])),
                fields=["tenant", "status", "-id"],
                name="jobs_that_did_not_complete",
            ),
        ),
    ]
