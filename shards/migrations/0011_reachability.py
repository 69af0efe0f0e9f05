"""Memory of the checks whether shards can reach the control plane, which a restart of the control worker keeps."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shards", "0010_labels"),
    ]

    operations = [
        migrations.CreateModel(
            name="ReachabilityRecord",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("monitor", models.CharField(max_length=20, unique=True)),
                ("since", models.DateTimeField()),
                ("checked_at", models.DateTimeField()),
                ("unreachable_since", models.DateTimeField(blank=True, null=True)),
            ],
        ),
    ]
