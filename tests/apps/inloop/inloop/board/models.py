"""What PostgreSQL keeps."""

import uuid

from django.conf import settings
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


def place_of(solution: "Solution", _name: str) -> str:
    """Below MEDIA_ROOT; nothing of it is the uploader's to choose."""
    return f"solutions/{solution.pk}.sh"


class Solution(models.Model):
    """What somebody has uploaded, and what the consumer makes of it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    file = models.FileField(upload_to=place_of)
    verdict = models.JSONField(null=True)
    submitted = models.DateTimeField(auto_now_add=True)
    finished = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-submitted"]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def state(self) -> str:
        """For people."""
        if self.verdict is None:
            return "waiting"
        if self.verdict["passed"]:
            return "passed"
        return f"failed: {self.verdict['ended'] or 'wrong'} at {self.verdict['case']}"


class Checkout(models.Model):
    """A repository below GIT_ROOT, as the consumer fetched it last."""

    name = models.CharField(max_length=200, primary_key=True)
    commit = models.CharField(max_length=64)
    fetched = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return f"{self.name} at {self.commit}"
