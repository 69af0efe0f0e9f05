"""Work of agents that is kept with its job: encrypted parts, and the work that a job has to push."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0015_missing"),
        ("tenants", "0007_callback_keys"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="KeptWorkPart",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("file", models.CharField(max_length=10)),
                ("number", models.IntegerField()),
                ("bytes", models.IntegerField()),
                ("sealed", models.TextField(editable=False)),
            ],
        ),
        migrations.AddField(
            model_name="job",
            name="is_push",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.CreateModel(
            name="KeptWork",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("attempt_number", models.IntegerField()),
                ("is_complete", models.BooleanField(default=False)),
                ("is_ready", models.BooleanField(default=False)),
                ("head", models.CharField(blank=True, max_length=64)),
                ("bundle_bytes", models.BigIntegerField(default=0)),
                ("patch_bytes", models.BigIntegerField(default=0)),
                ("stored_bytes", models.BigIntegerField(default=0)),
                ("sealed", models.TextField(editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("expires_at", models.DateTimeField()),
                (
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="kept_works",
                        to="jobs.job",
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                ),
            ],
        ),
        migrations.AddField(
            model_name="job",
            name="work",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="jobs",
                to="jobs.keptwork",
            ),
        ),
        migrations.AddIndex(
            model_name="job",
            index=models.Index(condition=models.Q(("work__isnull", False)), fields=["work"], name="jobs_by_work"),
        ),
        migrations.AddField(
            model_name="keptworkpart",
            name="work",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="parts", to="jobs.keptwork"
            ),
        ),
        migrations.AddIndex(
            model_name="keptwork",
            index=models.Index(fields=["tenant", "id"], name="kept_work_of_a_tenant"),
        ),
        migrations.AddIndex(
            model_name="keptwork",
            index=models.Index(fields=["expires_at"], name="kept_work_by_its_end"),
        ),
        migrations.AddConstraint(
            model_name="keptwork",
            constraint=models.UniqueConstraint(fields=("job", "attempt_number"), name="kept_work_of_one_attempt"),
        ),
        migrations.AddConstraint(
            model_name="keptworkpart",
            constraint=models.UniqueConstraint(fields=("work", "file", "number"), name="parts_of_kept_work"),
        ),
    ]
