"""Settings of the project; ``PROJECT_DATABASE`` is the DSN of a PostgreSQL."""

import os
from typing import Any

from sqlalchemy import make_url

_url = make_url(os.environ["PROJECT_DATABASE"]) if os.environ.get("PROJECT_DATABASE") else None

DATABASES: dict[str, dict[str, Any]] = {
    "default": (
        {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        if _url is None
        else {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.database,
            "USER": _url.username,
            "HOST": _url.host,
            "PORT": _url.port,
        }
    )
}
DATABASES["default"]["ATOMIC_REQUESTS"] = True

ALLIGATOR = {"CONN": "locmem://"}
ALLOWED_HOSTS = ["*"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_alligator",
    "tests.integrations.django_alligator.project.apps.Project",
]
MIDDLEWARE = [
    "django_alligator.Middleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "tests.integrations.django_alligator.project.urls"
SECRET_KEY = "for tests"
STATIC_URL = "static/"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.request",
            ]
        },
    }
]
USE_TZ = True
