"""Django settings, all of them from the environment (README.md lists the names).

Nothing here opens a connection or looks at the disk: `check` and
`collectstatic` run on a build machine that has neither network nor secrets.
"""

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from inloop import environment

environment.require(
    [
        "ADMINS",
        "ALLOWED_HOSTS",
        "CACHE_URL",
        "DATABASE_URL",
        "DJANGO_SETTINGS_MODULE",
        "FROM_EMAIL",
        "GITHUB_SECRET",
        "GIT_ROOT",
        "LANG",
        "MEDIA_ROOT",
        "PYTHONPATH",
        "REDIS_URL",
        "SECRET_KEY",
        "STATIC_ROOT",
    ]
)

DEBUG = environment.boolean("DEBUG", default=False)
SECRET_KEY = os.environ["SECRET_KEY"]
GITHUB_SECRET = os.environ["GITHUB_SECRET"]
ALLOWED_HOSTS = environment.comma_separated("ALLOWED_HOSTS")
INTERNAL_IPS = environment.comma_separated("INTERNAL_IPS")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sites",
    "django.contrib.staticfiles",
    "huey.contrib.djhuey",
    "inloop.board",
]
SITE_ID = 1

MIDDLEWARE = [
    "inloop.board.reports.InternalReports",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "solutions"

ROOT_URLCONF = "inloop.urls"
WSGI_APPLICATION = "inloop.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
            ]
        },
    }
]

# Data: PostgreSQL, and two databases of one Redis server.

DATABASES = {"default": environment.database("DATABASE_URL")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": environment.redis_url("CACHE_URL"),
    }
}
SESSION_ENGINE = "django.contrib.sessions.backends.cache"

HUEY = {
    "name": "inloop",
    # Unlike RedisHuey, drops results that nobody fetched.
    "huey_class": "huey.RedisExpireHuey",
    "expire_time": 3600,  # seconds
    # djhuey's default is DEBUG, and then no job would reach the consumer.
    "immediate": False,
    "connection": {"url": environment.redis_url("REDIS_URL")},
    "consumer": {
        # systemd stops with SIGTERM: finish the jobs at hand, for 5 s at most.
        "graceful_signal": "TERM",
        "shutdown_timeout": 5,
    },
}

# Files.

STATIC_URL = "/static/"
STATIC_ROOT = environment.absolute_path("STATIC_ROOT")
# What `npm install --production` has put there, where it was run.
_npm = Path(__file__).parent.parent / "node_modules" / "normalize.css"
STATICFILES_DIRS = [("normalize", _npm)] if _npm.is_dir() else []
MEDIA_ROOT = environment.absolute_path("MEDIA_ROOT")
# The folder's own rights say who reads uploads: nginx by its group, huey by its access control list.
FILE_UPLOAD_PERMISSIONS = 0o640
GIT_ROOT = environment.absolute_path("GIT_ROOT")
if MEDIA_ROOT not in GIT_ROOT.parents:
    raise ImproperlyConfigured("GIT_ROOT: must be a subdirectory of MEDIA_ROOT")

# nginx in front.

PROXY_ENABLED = environment.boolean("PROXY_ENABLED", default=False)
if PROXY_ENABLED:
    environment.require(["X_ACCEL_LOCATION"])
    USE_X_FORWARDED_HOST = True
    USE_X_FORWARDED_PORT = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
# The manual's example has no trailing slash, an nginx location often has one.
X_ACCEL_LOCATION = os.environ.get("X_ACCEL_LOCATION", "").rstrip("/") + "/"
if not X_ACCEL_LOCATION.startswith("/"):
    raise ImproperlyConfigured("X_ACCEL_LOCATION: must start with a slash")

SESSION_COOKIE_SECURE = environment.boolean("SECURE_COOKIES", default=True)
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE

# nginx sets these headers and redirects HTTP to HTTPS. A header that Django
# set as well would be sent twice.
SECURE_HSTS_SECONDS = 0
SECURE_SSL_REDIRECT = False
SECURE_CONTENT_TYPE_NOSNIFF = False
SECURE_REFERRER_POLICY = None
SECURE_CROSS_ORIGIN_OPENER_POLICY = None
SILENCED_SYSTEM_CHECKS = [
    "security.W002",  # X-Frame-Options
    "security.W004",  # Strict-Transport-Security
    "security.W006",  # X-Content-Type-Options
    "security.W008",  # redirect to HTTPS
    "security.W022",  # Referrer-Policy
]

# Mail and logs.

ADMINS = [(address, address) for address in environment.comma_separated("ADMINS")]
DEFAULT_FROM_EMAIL = SERVER_EMAIL = os.environ["FROM_EMAIL"]
EMAIL_TIMEOUT = 5  # seconds; the request that failed waits for the report
globals().update(environment.email("EMAIL_URL", default="smtp://:@localhost:25"))

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "filters": {"production": {"()": "django.utils.log.RequireDebugFalse"}},
    "handlers": {
        # journald adds time, unit and process.
        "stderr": {"class": "logging.StreamHandler", "formatter": "plain"},
        "mail": {
            "class": "django.utils.log.AdminEmailHandler",
            "level": "ERROR",
            "filters": ["production"],
        },
    },
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django": {"handlers": ["mail"], "level": "INFO"},
        # run_huey adds a second handler of its own where it finds none.
        "huey": {"handlers": ["stderr", "mail"], "level": "INFO", "propagate": False},
    },
}

USE_TZ = True
TIME_ZONE = "UTC"
