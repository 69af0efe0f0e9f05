"""Events are kept as text, one a line; logs have a size; attempts have their usage."""

import json

from django.db import migrations, models


def to_lines(apps, schema_editor):
    """Write what is stored as the lines that readers expect from now on."""
    batches = apps.get_model("jobs", "EventBatch").objects.using(schema_editor.connection.alias)
    for batch in batches.iterator(chunk_size=100):
        batch.lines = "\n".join(
            json.dumps({name: event[name] for name in ("seq", "at", "kind", "data")}, separators=(",", ":"))
            for event in batch.events
        )
        batch.bytes = len(batch.lines)
        batch.save(update_fields=["lines", "bytes"])
    jobs = apps.get_model("jobs", "Job").objects.using(schema_editor.connection.alias)
    for job in jobs.filter(next_seq__gt=1).annotate(total=models.Sum("event_batches__bytes")).iterator():
        # What a log holds so far counts as its beginning, which is never dropped.
        jobs.filter(pk=job.pk).update(log_bytes=job.total or 0, log_head_seq=job.next_seq - 1)


class Migration(migrations.Migration):
    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.AddField("attempt", "usage", models.JSONField(blank=True, editable=False, null=True)),
        migrations.AddField("job", "log_bytes", models.PositiveBigIntegerField(default=0, editable=False)),
        migrations.AddField("job", "log_head_seq", models.PositiveBigIntegerField(default=0, editable=False)),
        migrations.AddField("eventbatch", "lines", models.TextField(default=""), preserve_default=False),
        migrations.AddField("eventbatch", "bytes", models.PositiveIntegerField(default=0), preserve_default=False),
        migrations.RunPython(to_lines, migrations.RunPython.noop, elidable=True),
        migrations.RemoveField("eventbatch", "events"),
    ]
