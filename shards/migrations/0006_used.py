from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shards", "0005_templates")]

    operations = [
        migrations.AddField(
            model_name="shard", name="is_used", field=models.BooleanField(default=False, editable=False)
        ),
    ]
