"""What every installation shares. Its own settings are production.py, for which production.example.py is the pattern."""
from pathlib import Path

ROOT_DIR = Path(__file__).resolve().parents[2]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "patchwork.apps.PatchworkConfig",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        # Before the admin's, whose pages of password reset have the same names.
        "DIRS": [ROOT_DIR / "patchwork/templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "patchwork.urls"
WSGI_APPLICATION = "patchwork.wsgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SITE_ID = 1
LOGIN_URL = "/user/login/"
LOGIN_REDIRECT_URL = "/"
STATIC_URL = "/static/"
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-au"
USE_TZ = True
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}

# Patchwork's own.
DEFAULT_PATCHES_PER_PAGE = 100
DEFAULT_FROM_EMAIL = "Patchwork <patchwork@patchwork.example.com>"
NOTIFICATION_FROM_EMAIL = DEFAULT_FROM_EMAIL
# Minutes after the last change of a patch; as often as `manage.py cron` runs.
NOTIFICATION_DELAY_MINUTES = 10
CONFIRMATION_VALIDITY_DAYS = 7
ENABLE_XMLRPC = False
