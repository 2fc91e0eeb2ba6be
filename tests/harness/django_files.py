"""A Django project in files, for processes: manage.py, web servers, workers."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alligator import Gator
from alligator.commits.databases import ddl
from tests.harness.payloads import payload
from tests.harness.programs import ROOT, Program, environment

FILES = {
    "manage.py": """
import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
""",
    "shop/__init__.py": "",
    "shop/settings.py": """
import os
from pathlib import Path

BASE_DIR = Path(__file__).parent.parent
SECRET_KEY = "for tests"
DEBUG = os.environ.get("DEBUG") == "yes"
ALLOWED_HOSTS = ["127.0.0.1", "localhost"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django_alligator",
    "shop",
]
MIDDLEWARE = [
    "django_alligator.Middleware",
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
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "shop.db",
        "ATOMIC_REQUESTS": os.environ.get("ATOMIC_REQUESTS") == "yes",
    },
    "stock": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": BASE_DIR / "stock.db",
        "CONN_MAX_AGE": None,
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
STATIC_URL = "static/"
USE_TZ = True
ALLIGATOR = {"CONN": f"sqlite://{BASE_DIR / 'queue.db'}"}
""",
    "shop/models.py": """
from django.db import models


class Order(models.Model):
    name = models.CharField(max_length=200)
""",
    "shop/tasks.py": """
import os
import threading

from django.db import connections

from .models import Order


def note(line):
    with open(os.environ["OUT"], "a") as file:
        file.write(f"{line}\\n")


def note_order(name):
    order = Order.objects.create(name=name)
    note(f"{order.name} {Order.objects.using('stock').count()}")


async def anote_order(name):
    await Order.objects.acreate(name=name)
    note(f"{name} {await Order.objects.filter(name=name).acount()}")


def note_connections(name):
    \"\"\"Note which connections of this thread are open before the first query.\"\"\"
    found = sorted(each.alias for each in connections.all() if each.connection is not None)
    note(f"{name} {found}")
    Order.objects.count()
    Order.objects.using("stock").count()
""",
    "shop/urls.py": """
import asyncio
import time

from django.contrib import admin
from django.db import transaction
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import include, path

from django_alligator import gator

from .models import Order
from .tasks import note


def atomic(request, fate):
    with transaction.atomic():
        Order.objects.create(name=fate)
        gator.task(note, fate)
        if fate == "rollback":
            transaction.set_rollback(True)
        if fate == "raise":
            raise RuntimeError("the view fails")
    with transaction.atomic(using="stock"):  # which is not enlisted
        gator.task(note, f"stock {fate}")
    return HttpResponse(status=500 if fate == "500" else 200)


class Abandoned(BaseException):
    pass


ENDS = {"raise": RuntimeError, "exit": SystemExit, "abandon": Abandoned}


def order(request, fate):
    Order.objects.create(name=fate)
    gator.task(note, fate)
    if fate == "rollback":
        transaction.set_rollback(True)
    if fate in ENDS:
        raise ENDS[fate]
    return HttpResponse(status=int(fate) if fate.isdigit() else 200)


def work(path):
    gator.task(note, path)
    if path in ENDS:
        raise ENDS[path]
    if path == "hang":
        note("hanging")
        time.sleep(60)
    return HttpResponse("done", status=int(path) if path.isdigit() else 200)


def page(request, path):
    if path == "file":
        gator.task(note, path)
        return FileResponse(open(__file__, "rb"))
    if path == "stream":
        gator.task(note, path)
        return StreamingHttpResponse(b"chunk " for _ in range(3))
    return work(path)


async def apage(request, path):
    if path == "stream":
        gator.task(note, path)
        return StreamingHttpResponse(chunks())
    return work(path)


async def chunks():
    for _ in range(3):
        yield b"chunk "


urlpatterns = [
    path("admin/", admin.site.urls),
    path("alligator/", include("django_alligator.urls")),
    path("atomic/<fate>", atomic),
    path("order/<fate>", order),
    path("async/<path:path>", apage),
    path("<path:path>", page),
]
""",
    "shop/wsgi.py": """
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
""",
    "shop/asgi.py": """
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_asgi_application()
""",
}


class DjangoProject:
    """A project in *folder*."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.dsn = f"sqlite://{folder / 'queue.db'}"
        for name, text in FILES.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of its processes."""
        path = os.pathsep.join([str(self.folder), str(ROOT), str(ROOT / "integrations")])
        return {"PYTHONPATH": path, "OUT": str(self.out)}

    def manage(self, *words: str, **env: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of manage.py to its end."""
        return subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=self.folder,
            env=environment({**self.environ, **env}),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    def create_tables(self) -> None:
        """Create the tables of both databases, without a slow process."""
        for name in ("shop.db", "stock.db"):
            with closing(sqlite3.connect(self.folder / name)) as connection:
                connection.execute(
                    "CREATE TABLE shop_order (id INTEGER PRIMARY KEY, name VARCHAR(200) NOT NULL)"
                )
                connection.executescript(ddl("sqlite"))

    def push(self, name: str, *args: object) -> None:
        """Push a task of the project, whose functions this process cannot import."""
        with Gator(self.dsn) as gator:
            text = payload("shop.tasks", name, *args)
            gator.client.push(gator.queue_name, f"{name} {args}", text)

    @contextmanager
    def managing(self, *words: str, log: Path, **env: str) -> Iterator[Program]:
        """Run a command of manage.py during the block."""
        with log.open("wb") as stderr:
            program = Program(
                [sys.executable, "manage.py", *words],
                cwd=self.folder,
                env=environment({**self.environ, **env}),
                stderr=stderr,
            )
        program.log = log
        try:
            yield program
        finally:
            program.kill()
            program.wait()
