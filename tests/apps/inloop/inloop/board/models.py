"""What PostgreSQL keeps."""

import uuid

from django.db import models


class Entry(models.Model):
    """A line someone left on the board."""

    text = models.CharField(max_length=500)
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return self.text


class Job(models.Model):
    """A job the web application queued; the consumer fills in the result.

    The row shows that both of them use the same database.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    result = models.JSONField(null=True)
    created = models.DateTimeField(auto_now_add=True)
    finished = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.id)

    @property
    def state(self) -> str:
        return "done" if self.finished else "waiting"
