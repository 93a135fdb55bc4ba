import random
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db import models
from django.urls import reverse
from django.utils import timezone

from patchwork import hasher


class Project(models.Model):
    linkname = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255, unique=True)
    listid = models.CharField(max_length=255, unique=True)
    listemail = models.CharField(max_length=200)
    web_url = models.CharField(max_length=2000, blank=True)
    send_notifications = models.BooleanField(default=False)
    use_tags = models.BooleanField(default=True)

    class Meta:
        ordering = ["linkname"]

    def __str__(self):
        return self.name

    def is_editable(self, user):
        return user.is_authenticated and user.profile.maintainer_projects.filter(pk=self.pk).exists()


class State(models.Model):
    name = models.CharField(max_length=100)
    ordering = models.IntegerField(unique=True)
    action_required = models.BooleanField(default=True)

    class Meta:
        ordering = ["ordering"]

    def __str__(self):
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=20)
    pattern = models.CharField(max_length=50)
    abbrev = models.CharField(max_length=2, unique=True)

    def __str__(self):
        return self.name


class Person(models.Model):
    """Whoever has sent a mail."""

    email = models.CharField(max_length=255, unique=True)
    name = models.CharField(max_length=255, blank=True)
    user = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL)

    def __str__(self):
        return f"{self.name} <{self.email}>" if self.name else self.email


class UserProfile(models.Model):
    user = models.OneToOneField(User, related_name="profile", on_delete=models.CASCADE)
    maintainer_projects = models.ManyToManyField(Project, related_name="maintainer_project", blank=True)

    def __str__(self):
        return self.user.username


class Patch(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE)
    msgid = models.CharField(max_length=255)
    name = models.CharField(max_length=255)
    date = models.DateTimeField(default=timezone.now)
    submitter = models.ForeignKey(Person, on_delete=models.CASCADE)
    state = models.ForeignKey(State, on_delete=models.PROTECT)
    headers = models.TextField(blank=True)
    content = models.TextField()
    diff = models.TextField()
    hash = models.CharField(max_length=40, db_index=True)
    commit_ref = models.CharField(max_length=255, blank=True)

    class Meta:
        ordering = ["date", "id"]
        unique_together = [("msgid", "project")]
        verbose_name_plural = "Patches"

    def __str__(self):
        return self.name

    def save(self, *args, **kwargs):
        self.hash = hasher.hash_diff(self.diff)
        super().save(*args, **kwargs)

    def get_absolute_url(self):
        return reverse("patch-detail", args=[self.pk])

    def is_editable(self, user):
        if not user.is_authenticated:
            return False
        return self.submitter.user_id == user.pk or self.project.is_editable(user)


class PatchChangeNotification(models.Model):
    """A change that its submitter has not been told of yet."""

    patch = models.OneToOneField(Patch, primary_key=True, on_delete=models.CASCADE)
    last_modified = models.DateTimeField(default=timezone.now)
    orig_state = models.ForeignKey(State, on_delete=models.CASCADE)


def new_key():
    return f"{random.SystemRandom().getrandbits(160):040x}"


class EmailConfirmation(models.Model):
    """A registration whose address is not proven yet."""

    user = models.ForeignKey(User, on_delete=models.CASCADE)
    email = models.CharField(max_length=200)
    key = models.CharField(max_length=40, default=new_key, unique=True)
    date = models.DateTimeField(default=timezone.now)

    def is_valid(self):
        return timezone.now() < self.date + timedelta(days=settings.CONFIRMATION_VALIDITY_DAYS)
