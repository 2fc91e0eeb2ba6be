"""The table of the outbox, which a migration creates."""

from typing import Any

from django.db import models

from alligator.commits.databases import TABLE


class OutboxCommit(models.Model):
    """Tasks that a transaction of the project has committed, until a relay has pushed them."""

    id: Any = models.BigAutoField(primary_key=True)
    commit_id: Any = models.CharField(max_length=32)
    at: Any = models.FloatField()
    data: Any = models.TextField()
    failures: Any = models.IntegerField(db_default=0)
    not_before: Any = models.FloatField(db_default=0.0)
    error: Any = models.TextField(null=True)

    class Meta:
        """Its name is the same in all integrations."""

        db_table = TABLE
        default_permissions = ()
        # Not unique=True, for which Django adds a second index in PostgreSQL.
        constraints = [
            models.UniqueConstraint(fields=["commit_id"], name="alligator_outbox_commit_id")
        ]

    def __str__(self) -> str:
        return str(self.commit_id)
