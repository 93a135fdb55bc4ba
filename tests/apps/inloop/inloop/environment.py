"""Reads environment variables for settings.py, the only caller.

Every complaint is an ImproperlyConfigured that names the variable and never
quotes its value, because many of them hold secrets and the message is logged.
"""

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0", ""}

_EMAIL_BACKENDS = {
    "smtp": "django.core.mail.backends.smtp.EmailBackend",
    "smtp+tls": "django.core.mail.backends.smtp.EmailBackend",
    "smtp+ssl": "django.core.mail.backends.smtp.EmailBackend",
    "consolemail": "django.core.mail.backends.console.EmailBackend",
}


def require(names: list[str]) -> None:
    """Complain once about all of `names` that are unset or empty."""
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise ImproperlyConfigured(
            f"missing environment variables: {', '.join(missing)}"
        )


def boolean(name: str, default: bool) -> bool:
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name}: must be True or False")


def comma_separated(name: str) -> list[str]:
    items = (item.strip() for item in os.environ.get(name, "").split(","))
    return [item for item in items if item]


def absolute_path(name: str) -> Path:
    """The normalised path; it need not exist, as on a build machine."""
    path = os.environ[name]
    if not os.path.isabs(path):
        raise ImproperlyConfigured(f"{name}: must be an absolute path")
    return Path(os.path.normpath(path))


def redis_url(name: str) -> str:
    url = os.environ[name]
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ImproperlyConfigured(f"{name}: must be a redis:// URL")
    return url


def database(name: str) -> dict[str, object]:
    """An entry of DATABASES from a URL such as postgres://user:pass@host/db."""
    try:
        parsed = dj_database_url.parse(
            os.environ[name], conn_max_age=60, conn_health_checks=True
        )
    except ValueError:
        parsed = {}
    if parsed.get("ENGINE") != "django.db.backends.postgresql":
        raise ImproperlyConfigured(f"{name}: must be a postgres:// URL")
    return dict(parsed)


def email(name: str, default: str) -> dict[str, object]:
    """The EMAIL_* settings for a URL such as smtp+tls://user:pass@host:587."""
    try:
        url = urlsplit(os.environ.get(name) or default)
        backend, port = _EMAIL_BACKENDS[url.scheme], url.port
    except (KeyError, ValueError):
        schemes = ", ".join(_EMAIL_BACKENDS)
        raise ImproperlyConfigured(
            f"{name}: must be a URL of one of the schemes {schemes}"
        ) from None
    return {
        "EMAIL_BACKEND": backend,
        "EMAIL_HOST": url.hostname or "localhost",
        "EMAIL_PORT": port or 25,
        "EMAIL_HOST_USER": unquote(url.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(url.password or ""),
        "EMAIL_USE_TLS": url.scheme == "smtp+tls",
        "EMAIL_USE_SSL": url.scheme == "smtp+ssl",
    }
