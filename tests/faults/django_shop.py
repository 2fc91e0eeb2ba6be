"""The application of `tests.faults.shop` in Django."""

import os
from typing import Any

import django
from django.conf import settings

from tests.harness.django_settings import settings_of, use_pymysql

if not settings.configured:
    if os.environ["SHOP_DATABASE"].startswith("mysql"):
        use_pymysql()
    settings.configure(
        ALLIGATOR={"DATABASES": []},
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {**settings_of(os.environ["SHOP_DATABASE"]), "CONN_MAX_AGE": None}},
        INSTALLED_APPS=["django_alligator"],
        MIDDLEWARE=[f"{__name__}.middleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for tests",
        USE_TZ=True,
    )
    django.setup()

from django.core.wsgi import get_wsgi_application
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_alligator.enlisting import enlist
from django_alligator.middleware import Middleware
from tests.faults.shop import GiveUpSavepoint, gator, start


def middleware(get_response: Any) -> Middleware:
    """Return the middleware with the gator of the shop."""
    return Middleware(get_response, gator)


def take(name: str) -> None:
    """Insert a row, and start its task."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO shop_rows VALUES (%s)", [name])
    start(name)


def order(request: HttpRequest) -> HttpResponse:
    """Insert rows and start tasks in a transaction, and in a savepoint."""
    name, fate = request.GET["id"], request.GET["fate"]
    with transaction.atomic():
        take(name)
        try:
            with transaction.atomic():
                take(f"{name}-s")
                if fate == "savepoint":
                    raise GiveUpSavepoint
        except GiveUpSavepoint:
            pass
        if fate == "rollback":
            transaction.set_rollback(True)
    return HttpResponse(status=500 if fate == "500" else 201)


urlpatterns = [path("", order)]


def make(enlisted: bool) -> Any:
    """Return the application."""
    if enlisted:
        enlist(gator)
    return get_wsgi_application()
