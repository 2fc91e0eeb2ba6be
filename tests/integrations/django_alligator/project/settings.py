"""Settings of the project; ``PROJECT_DATABASE`` is the DSN of a PostgreSQL."""

import os
from typing import Any

from tests.harness.django_settings import settings_of

DATABASES: dict[str, dict[str, Any]] = {
    "default": settings_of(os.environ["PROJECT_DATABASE"] or "sqlite:///:memory:")
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
