"""What every installation shares."""
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "kano_konnect"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "kano_konnect.urls"
WSGI_APPLICATION = "kano_konnect.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "/static/"
# In the repository, as the manual has it: collected before a commit, not on the server.
STATIC_ROOT = PROJECT / "assets"
USE_TZ = True
TIME_ZONE = "Europe/London"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
