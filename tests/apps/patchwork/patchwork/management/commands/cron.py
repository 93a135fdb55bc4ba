from django.core.management.base import BaseCommand

from patchwork.notifications import expire_registrations, send_notifications


class Command(BaseCommand):
    help = "Sends notifications of changes, and removes registrations that have expired."

    def handle(self, *_, **__):
        self.stdout.write(f"{send_notifications()} notifications sent, {expire_registrations()} registrations expired")
