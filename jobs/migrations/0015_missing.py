"""Time since when a shard's reports do not name an attempt that should run there."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0014_jobs_that_did_not_complete"),
    ]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="missing_at",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
    ]
