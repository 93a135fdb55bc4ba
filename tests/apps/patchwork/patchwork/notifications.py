"""What `manage.py cron` does."""
from datetime import timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sites.models import Site
from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.utils import timezone

from patchwork.models import EmailConfirmation, PatchChangeNotification


def send_notifications():
    """Tells submitters of changes that have been left alone for NOTIFICATION_DELAY_MINUTES; how many mails went out."""
    before = timezone.now() - timedelta(minutes=settings.NOTIFICATION_DELAY_MINUTES)
    due = PatchChangeNotification.objects.filter(last_modified__lt=before).select_related("patch__submitter", "patch__state", "orig_state")
    by_receiver = {}
    for note in due:
        by_receiver.setdefault(note.patch.submitter.email, []).append(note)
    for receiver, notes in by_receiver.items():
        body = render_to_string("patchwork/patch-change-notification.txt", {"notes": notes, "site": Site.objects.get_current()})
        EmailMessage("Patch update notification", body, settings.NOTIFICATION_FROM_EMAIL, [receiver], headers={"Precedence": "bulk"}).send()
        PatchChangeNotification.objects.filter(pk__in=[note.pk for note in notes]).delete()
    return len(by_receiver)


def expire_registrations():
    """Removes users whose address was never proven; how many."""
    before = timezone.now() - timedelta(days=settings.CONFIRMATION_VALIDITY_DAYS)
    expired = EmailConfirmation.objects.filter(date__lt=before)
    users = User.objects.filter(is_active=False, last_login=None, pk__in=expired.values("user"))
    count = users.count()
    users.delete()
    expired.delete()
    return count
