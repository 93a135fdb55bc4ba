"""What an operator would otherwise click together in /admin: the site's domain, the first project, the account that the git hook logs in with.

Run before each release goes live, in its folder. What somebody has changed since stays, but for the domain and the hook's password, which are
the stack's.
"""
import os
import sys

import django

sys.path.insert(0, os.getcwd())
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "patchwork.settings.production")
django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sites.models import Site  # noqa: E402
from patchwork.models import Project  # noqa: E402

Site.objects.update_or_create(pk=settings.SITE_ID, defaults={"domain": settings.SITE_DOMAIN, "name": "Patchwork"})
first = settings.FIRST_PROJECT
project, _ = Project.objects.get_or_create(linkname=first["linkname"], defaults=first)
hook, _ = User.objects.get_or_create(username="git-hook")
if not hook.check_password(settings.HOOK_PASSWORD):
    hook.set_password(settings.HOOK_PASSWORD)
    hook.save()
hook.profile.maintainer_projects.add(project)
