import mailbox
import os

from django.core.management.base import BaseCommand, CommandError

from patchwork.parser import parse_mail


class Command(BaseCommand):
    help = "Makes patches of the mails of an archive: an mbox, or a Maildir."

    def add_arguments(self, parser):
        parser.add_argument("archive")

    def handle(self, *_, archive, **__):
        if not os.path.exists(archive):
            raise CommandError(f"there is no archive {archive}")
        box = mailbox.Maildir(archive, create=False) if os.path.isdir(archive) else mailbox.mbox(archive, create=False)
        patches = [patch for key in box.keys() if (patch := parse_mail(box.get_bytes(key)))]
        self.stdout.write(f"{len(patches)} patches of {len(box)} mails")
