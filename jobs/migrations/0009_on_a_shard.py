"""What a shard runs is counted with each claim, whatever others run."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0008_writes"),
        ("shards", "0003_writes"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(condition=models.Q(("state", "running")), fields=["shard"], name="attempts_on_a_shard"),
        ),
    ]
