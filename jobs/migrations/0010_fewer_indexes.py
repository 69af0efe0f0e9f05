"""Keys that a job or an attempt has not, or nobody looks for, cost its writes no entry in an index any more."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def _key(to, **options):
    return models.ForeignKey(
        blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, to=to, **options
    )


def _where_it_is_set(name):
    return migrations.AddIndex(
        model_name="job",
        index=models.Index(condition=models.Q((f"{name}__isnull", False)), fields=[name], name=f"jobs_by_{name}"),
    )


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0009_on_a_shard"),
        ("shards", "0003_writes"),
        ("tenants", "0003_callbacks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveIndex(model_name="attempt", name="attempts_on_a_shard"),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(
                condition=models.Q(("ended_at__isnull", True), ("shard__isnull", False)),
                fields=["shard"],
                name="attempts_on_a_shard",
            ),
        ),
        migrations.AlterField(model_name="attempt", name="shard", field=_key("shards.shard", related_name="attempts")),
        migrations.AlterField(model_name="job", name="api_key", field=_key("tenants.apikey")),
        migrations.AlterField(model_name="job", name="created_by", field=_key(settings.AUTH_USER_MODEL)),
        migrations.AlterField(model_name="job", name="retry_of", field=_key("jobs.job", related_name="retries")),
        _where_it_is_set("created_by"),
        _where_it_is_set("api_key"),
        _where_it_is_set("retry_of"),
    ]
