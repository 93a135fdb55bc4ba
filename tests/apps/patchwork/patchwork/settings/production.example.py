"""The pattern of production.py: copy it there, and set what your installation needs."""
from .base import *  # noqa: F401,F403

# A long random text that nobody else knows.
# SECRET_KEY = ""
ALLOWED_HOSTS = ["patchwork.example.com"]
ADMINS = [("Joe Bloggs", "joe@example.com")]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": "",
        "PORT": "",
        "NAME": "patchwork",
        "USER": "www-data",
        "PASSWORD": "",
        # For the test suite, whose mails are not ASCII alone.
        "TEST": {"CHARSET": "utf8"},
    },
}
STATIC_ROOT = "/var/www/patchwork"
