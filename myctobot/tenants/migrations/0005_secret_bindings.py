"""Bindings of stored secrets; a secret that exists already is unbound, so only admins can use it."""

import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0004_audit"),
    ]

    operations = [
        migrations.AddField(
            model_name="secret",
            name="hosts",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=260),
                blank=True,
                db_default=[],
                default=list,
                help_text="For a repository: github.com, git.example.com:8443 or *.example.com. Without a port: 443 and 22.",
                size=None,
            ),
        ),
        migrations.AddField(
            model_name="secret",
            name="min_role",
            field=models.CharField(
                choices=[("member", "members and admins"), ("admin", "admins only")],
                db_default="admin",
                default="admin",
                max_length=10,
                verbose_name="may be used by",
            ),
        ),
        migrations.AddField(
            model_name="secret",
            name="purpose",
            field=models.CharField(
                choices=[
                    ("unbound", "unbound: any purpose and host, for admins only"),
                    ("repository", "repository: clone and push"),
                    ("provider", "provider: model calls of the gateway"),
                    ("tracker", "tracker: calls to Jira"),
                    ("webhook", "webhook: signatures of messages"),
                ],
                db_default="unbound",
                default="unbound",
                max_length=12,
            ),
        ),
    ]
