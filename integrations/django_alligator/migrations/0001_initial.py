"""Create the table of the outbox."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """If the table exists, because another integration uses it: migrate --fake-initial."""

    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="OutboxCommit",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("commit_id", models.CharField(max_length=32)),
                ("at", models.FloatField()),
                ("data", models.TextField()),
                ("failures", models.IntegerField(db_default=0)),
                ("not_before", models.FloatField(db_default=0.0)),
                ("error", models.TextField(null=True)),
            ],
            options={
                "db_table": "alligator_outbox",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("commit_id",), name="alligator_outbox_commit_id"
                    )
                ],
            },
        ),
    ]
