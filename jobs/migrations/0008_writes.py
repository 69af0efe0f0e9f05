"""Cheaper writes: no index that nobody looks with, and none that a batch of events concerns."""

import functools

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import myctobot.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0007_clocks"),
        ("shards", "0003_writes"),
        ("tenants", "0003_callbacks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(
            model_name="job",
            name="jobs_with_a_log",
        ),
        migrations.AddField(
            model_name="job",
            name="has_log",
            field=models.BooleanField(default=False, editable=False),
        ),
        migrations.RunSQL(
            "UPDATE jobs_job SET has_log = true WHERE finished_at IS NOT NULL AND log_bytes > 0", migrations.RunSQL.noop
        ),
        migrations.AlterField(
            model_name="attempt",
            name="gateway_token_hash",
            field=models.CharField(editable=False, max_length=64, null=True),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="job",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="attempts", to="jobs.job"
            ),
        ),
        migrations.AlterField(
            model_name="eventbatch",
            name="job",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="event_batches", to="jobs.job"
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="public_id",
            field=models.CharField(
                default=functools.partial(myctobot.lib.ids.public_id, *("job",), **{}), editable=False, max_length=40
            ),
        ),
        migrations.AlterField(
            model_name="job",
            name="tenant",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="jobs", to="tenants.tenant"
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(condition=models.Q(("has_log", True)), fields=["finished_at"], name="jobs_with_a_log"),
        ),
        migrations.AddConstraint(
            model_name="attempt",
            constraint=models.UniqueConstraint(
                condition=models.Q(("gateway_token_hash__isnull", False)),
                fields=("gateway_token_hash",),
                name="gateway_token_of_one_attempt",
            ),
        ),
        migrations.AddConstraint(
            model_name="job",
            constraint=models.UniqueConstraint(fields=("public_id",), name="public_id_of_one_job"),
        ),
        # Room on each page for the next version of its rows: then a write that concerns no index touches none.
        *(
            migrations.RunSQL(f"ALTER TABLE {table} SET (fillfactor = 70)", f"ALTER TABLE {table} RESET (fillfactor)")
            for table in ("jobs_job", "jobs_attempt")
        ),
    ]
