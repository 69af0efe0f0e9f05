import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("tenants", "0005_secret_bindings"),
    ]

    operations = [
        migrations.CreateModel(
            name="RepositoryPolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "repository",
                    models.CharField(help_text="Host and path, such as github.com/user/repo.", max_length=500),
                ),
                (
                    "allow_ci_files",
                    models.BooleanField(
                        default=False,
                        help_text="Jobs may push changes of files that make a CI server run programs.",
                    ),
                ),
                (
                    "allow_default_branch",
                    models.BooleanField(default=False, help_text="Jobs may push to the repository's default branch."),
                ),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "tenant",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="repository_policies",
                        to="tenants.tenant",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "repository policies",
                "constraints": [
                    models.UniqueConstraint(fields=("tenant", "repository"), name="one_policy_a_repository")
                ],
            },
        ),
    ]
