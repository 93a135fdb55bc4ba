"""`manage.py set_default_site`: names the site that the front page shows."""

import socket
from argparse import ArgumentParser

from django.conf import settings
from django.contrib.sites.models import Site
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    help = "Set domain and name of the default site; safe to run again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        domain = parser.add_mutually_exclusive_group(required=True)
        domain.add_argument(
            "--system-fqdn",
            action="store_true",
            help="use this machine's fully qualified name as the domain",
        )
        domain.add_argument("--domain", help="e.g. inloop.example.org")
        parser.add_argument("--name", help="default: the domain")

    def handle(self, **options: object) -> None:
        domain = _system_fqdn() if options["system_fqdn"] else options["domain"]
        # migrate makes the row, but an administrator may have deleted it.
        site = Site.objects.filter(pk=settings.SITE_ID).first()
        site = site or Site(pk=settings.SITE_ID)
        site.domain = domain
        site.name = options["name"] or domain
        try:
            site.full_clean()
        except ValidationError as error:
            raise CommandError(str(error)) from error
        site.save()
        self.stdout.write(f"Default site: {site.name} ({site.domain})")


def _system_fqdn() -> str:
    """What `hostname -f` prints, found as it does (hostname(1), THE FQDN)."""
    try:
        found = socket.getaddrinfo(
            socket.gethostname(), None, flags=socket.AI_CANONNAME
        )
    except socket.gaierror as error:
        raise CommandError(f"this machine's name does not resolve: {error}") from error
    return found[0][3]
