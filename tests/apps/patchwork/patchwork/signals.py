"""What follows from a change: a profile for each user, a note of each patch whose state is another."""
from django.contrib.auth.models import User
from django.db.models.signals import post_save, pre_save
from django.dispatch import receiver
from django.utils import timezone

from patchwork.models import Patch, PatchChangeNotification, UserProfile


@receiver(post_save, sender=User)
def make_profile(instance, **_):
    UserProfile.objects.get_or_create(user=instance)


@receiver(pre_save, sender=Patch)
def note_change(instance, **_):
    if not instance.pk or not instance.project.send_notifications:
        return
    before = Patch.objects.get(pk=instance.pk).state
    if before == instance.state:
        return
    note, made = PatchChangeNotification.objects.get_or_create(patch=instance, defaults={"orig_state": before})
    if made:
        return
    if note.orig_state == instance.state:
        note.delete()  # changed, and changed back
    else:
        note.last_modified = timezone.now()
        note.save()
