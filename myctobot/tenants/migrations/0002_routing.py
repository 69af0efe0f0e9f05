"""A tenant's weight and its limits."""

import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name="tenant",
            name="max_running_jobs",
            field=models.PositiveIntegerField(blank=True, help_text="Empty: as many as shards take.", null=True),
        ),
        migrations.AddField(
            model_name="tenant",
            name="max_waiting_jobs",
            field=models.PositiveIntegerField(blank=True, help_text="Empty: as MAX_WAITING_JOBS says.", null=True),
        ),
        migrations.AddField(
            model_name="tenant",
            name="weight",
            field=models.PositiveSmallIntegerField(
                default=100,
                help_text="Its share of busy shards, in proportion to the weights of the others that wait.",
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(10000),
                ],
            ),
        ),
    ]
