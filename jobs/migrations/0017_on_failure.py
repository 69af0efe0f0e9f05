"""Handling of the work of an attempt that does not end well."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0016_kept_work"),
    ]

    operations = [
        migrations.AddField(
            model_name="job",
            name="on_failure",
            field=models.CharField(
                choices=[("keep", "keep"), ("push_wip", "push_wip")], db_default="keep", default="keep", max_length=10
            ),
        ),
    ]
