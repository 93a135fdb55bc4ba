"""For `manage.py test`: neither PostgreSQL nor RabbitMQ; tasks run where they are called."""
from kano_konnect.settings.base import *  # noqa: F403

SECRET_KEY = "of the tests alone"
ALLOWED_HOSTS = ["testserver"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
CELERY_TASK_ALWAYS_EAGER = True
