"""Tenant and host of callbacks, so that one index finds what is due for each of them."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0011_names"),
        ("tenants", "0005_secret_bindings"),
    ]

    operations = [
        migrations.RemoveIndex(model_name="callback", name="callbacks_to_send"),
        migrations.AddField(
            model_name="callback",
            name="host",
            field=models.CharField(db_default="", default="", editable=False, max_length=300),
        ),
        migrations.AddField(
            model_name="callback",
            name="tenant",
            field=models.ForeignKey(
                db_index=False,
                editable=False,
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="tenants.tenant",
            ),
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(
                condition=models.Q(("state", "waiting")),
                fields=["tenant", "host", "next_try_at"],
                name="callbacks_of_a_host",
            ),
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(
                condition=models.Q(("state", "waiting"), ("tenant", None)),
                fields=["id"],
                name="callbacks_without_tenant",
            ),
        ),
    ]
