"""The live server's settings: what differs, and what is secret, comes from the environment."""
import os

import dj_database_url

from kano_konnect.settings.base import *  # noqa: F403

DEBUG = False
SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = os.environ["ALLOWED_HOSTS"].split(",")
DATABASES = {"default": dj_database_url.parse(os.environ["DATABASE_URL"])}
CELERY_BROKER_URL = os.environ["BROKER_URL"]
# "with tasks and results passed back and forth via a RabbitMQ server"
CELERY_RESULT_BACKEND = "rpc://"
CELERY_TASK_DEFAULT_QUEUE = os.environ.get("QUEUE", "kano_konnect")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
