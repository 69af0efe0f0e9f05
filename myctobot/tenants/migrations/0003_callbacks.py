"""What callbacks are signed with."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0002_routing"),
    ]

    operations = [
        migrations.CreateModel(
            name="CallbackSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sealed", models.TextField(editable=False)),
                ("rotated_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="callback_secret", to="tenants.tenant"
                    ),
                ),
            ],
        ),
    ]
