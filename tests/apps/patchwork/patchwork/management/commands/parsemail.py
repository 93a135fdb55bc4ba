import sys

from django.core.management.base import BaseCommand

from patchwork.parser import parse_mail


class Command(BaseCommand):
    help = "Makes a patch of a mail on standard input, or in a file."

    def add_arguments(self, parser):
        parser.add_argument("infile", nargs="?")

    def handle(self, *_, infile=None, **__):
        if infile is None:
            parse_mail(sys.stdin.buffer.read())
            return
        with open(infile, "rb") as file:
            parse_mail(file.read())
