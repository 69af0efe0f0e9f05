"""Lanes, holds and bounds of waiting jobs; the clocks of fair share."""

import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import jobs.models
import jobs.models.states


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0003_event_indexes"),
        ("tenants", "0002_routing"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ShareState",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("virtual", models.JSONField(default=dict)),
                ("counted_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.RemoveIndex(
            model_name="job",
            name="live_jobs",
        ),
        migrations.AddField(
            model_name="job",
            name="concurrency_key",
            field=models.CharField(blank=True, max_length=300),
        ),
        migrations.AddField(
            model_name="job",
            name="concurrency_limit",
            field=models.PositiveSmallIntegerField(default=1),
        ),
        migrations.AddField(
            model_name="job",
            name="hold",
            field=models.CharField(
                blank=True,
                choices=[("", "none"), ("sent", "sent"), ("time", "time"), ("key", "key")],
                editable=False,
                max_length=4,
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="lane",
            field=models.CharField(default="", editable=False, max_length=400),
        ),
        migrations.AddField(
            model_name="job",
            name="no_output_timeout_s",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="queue_deadline",
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="queue_timeout_s",
            field=models.PositiveIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="ready_at",
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
        ),
        migrations.AddField(
            model_name="job",
            name="retry_on",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=20), default=jobs.models.default_retry_on, size=None
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("status__in", ["queued", "running"])), fields=["tenant", "status"], name="live_jobs"
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("hold", jobs.models.states.Hold["NONE"]), ("status", "queued")),
                fields=["lane", "priority", "tenant", "id"],
                name="ready_jobs",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("hold", jobs.models.states.Hold["DELAYED"]), ("status", "queued")),
                fields=["ready_at"],
                name="parked_jobs",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("hold", jobs.models.states.Hold["CONCURRENCY"]), ("status", "queued")),
                fields=["tenant", "concurrency_key", "priority", "id"],
                name="jobs_behind_a_key",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(
                    ("status", "running"),
                    models.Q(("hold", jobs.models.states.Hold["DISPATCHED"]), ("status", "queued")),
                    _connector="OR",
                ),
                fields=["tenant", "concurrency_key"],
                name="jobs_that_hold_a_key",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(
                condition=models.Q(("queue_deadline__isnull", False), ("status", "queued")),
                fields=["queue_deadline"],
                name="jobs_by_queue_deadline",
            ),
        ),
    ]
