#!/usr/bin/env python3
"""Runs Django's and this application's commands, e.g. migrate and run_huey."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def main() -> None:
    # Without it Django answers "Unknown command" to most commands.
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise ImproperlyConfigured(
            "missing environment variable: DJANGO_SETTINGS_MODULE"
        )
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
