"""Callbacks and their deliveries."""

import functools

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import myctobot.lib.ids


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0005_lanes"),
    ]

    operations = [
        migrations.CreateModel(
            name="Callback",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(max_length=20)),
                (
                    "public_id",
                    models.CharField(
                        default=functools.partial(myctobot.lib.ids.public_id, *("msg",), **{}),
                        editable=False,
                        max_length=40,
                        unique=True,
                    ),
                ),
                ("body", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "Waiting: will be sent"),
                            ("delivered", "Delivered: the endpoint took it"),
                            ("given_up", "Given up: not taken within a day"),
                            ("disabled", "Disabled: the endpoint wants no more (410)"),
                        ],
                        default="waiting",
                        max_length=10,
                    ),
                ),
                ("tries", models.PositiveIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "job",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="callbacks", to="jobs.job"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Delivery",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False)),
                ("status", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("error", models.CharField(blank=True, max_length=300)),
                ("took_ms", models.PositiveIntegerField(default=0)),
                ("asked_by", models.CharField(blank=True, max_length=150)),
                (
                    "callback",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="deliveries", to="jobs.callback"
                    ),
                ),
            ],
        ),
        migrations.AddIndex(
            model_name="callback",
            index=models.Index(
                condition=models.Q(("state", "waiting")), fields=["next_try_at"], name="callbacks_to_send"
            ),
        ),
        migrations.AddConstraint(
            model_name="callback",
            constraint=models.UniqueConstraint(fields=("job", "kind"), name="one_callback_a_kind"),
        ),
    ]
