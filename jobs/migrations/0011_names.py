"""Python names of the fair-share clocks, of encrypted secrets and of holds; tables and columns stay as they are."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0010_fewer_indexes")]

    operations = [
        migrations.AlterModelTable("ShareState", "jobs_sharestate"),
        migrations.RenameModel("ShareState", "FairShareClocks"),
        migrations.AlterField("FairShareClocks", "virtual", models.JSONField(db_column="virtual", default=dict)),
        migrations.RenameField("FairShareClocks", "virtual", "by_tenant"),
        migrations.AlterField(
            "Job",
            "hold",
            models.CharField(
                blank=True,
                choices=[("", "none"), ("sent", "dispatched"), ("time", "delayed"), ("key", "concurrency")],
                editable=False,
                max_length=4,
            ),
        ),
        # The constraint names the field: the same condition in the database, so its state alone changes.
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveConstraint("Job", "ended_jobs_hold_no_secret")]
        ),
        migrations.AlterField("Job", "sealed", models.TextField(db_column="sealed", editable=False, null=True)),
        migrations.RenameField("Job", "sealed", "encrypted_secrets"),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddConstraint(
                    "Job",
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("status__in", ["cancelled", "completed", "failed"]), _negated=True),
                            ("encrypted_secrets__isnull", True),
                            _connector="OR",
                        ),
                        name="ended_jobs_hold_no_secret",
                    ),
                )
            ]
        ),
    ]
