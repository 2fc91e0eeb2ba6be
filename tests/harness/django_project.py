"""A small Django project in this process, and its sites for the tests of all web integrations."""

import asyncio
from collections.abc import Callable, Sequence
from inspect import isawaitable
from typing import Any, NamedTuple

import django
from django.conf import settings

if not settings.configured:
    settings.configure(
        ALLOWED_HOSTS=["*"],
        ALLIGATOR={"CONN": "locmem://"},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.admin",
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
            "django_alligator",
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="for tests",
        STATIC_URL="static/",
        TEMPLATES=[
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
        ],
        USE_TZ=True,
    )
    django.setup()

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils.decorators import sync_and_async_middleware

from django_alligator.middleware import Middleware

Respond = Callable[[Any], Any] | None
"""Makes the response of a request; a coroutine function may do so for an asynchronous view."""


def page(request: Any, path: str = "") -> HttpResponseBase:
    """Answer as the test says."""
    response: HttpResponseBase = request.respond(request)
    return response


async def async_page(request: Any, path: str = "") -> HttpResponseBase:
    """Asynchronous version of `page`."""
    response = request.respond(request)
    answer: HttpResponseBase = await response if isawaitable(response) else response
    return answer


urlpatterns = [path("", page), path("<path:path>", page)]
async_urls = (path("", async_page), path("<path:path>", async_page))

_middlewares: list[Any] = []
"""Those of the site that is made, the outermost first."""


def __getattr__(name: str) -> Any:
    """Return the middleware for ``middleware_0``, ``middleware_1`` and so on."""
    if not name.startswith("middleware_"):
        raise AttributeError(name)
    return _middlewares[int(name.removeprefix("middleware_"))]


def _responding(respond: Respond, urls: Sequence[Any] | None) -> Any:
    """Return a middleware that lets *respond* make the responses, in the view of *urls*."""

    class Responding:
        sync_capable = async_capable = True

        def __init__(self, get_response: Any) -> None:
            self.get_response = get_response
            if iscoroutinefunction(get_response):
                markcoroutinefunction(self)

        def __call__(self, request: Any) -> Any:
            request.respond = respond
            if urls is not None:
                request.urlconf = tuple(urls)
            return self.get_response(request)

    return Responding


def _to_middleware(layer: Any) -> Any:
    """Return a middleware; a dict has the arguments of Alligator's."""
    if not isinstance(layer, dict):
        return layer

    def middleware(get_response: Any) -> Middleware:
        return Middleware(get_response, **layer)

    return sync_and_async_middleware(middleware)


def make_client(
    respond: Respond,
    *layers: Any,
    is_async: bool = False,
    is_async_view: bool | None = None,
    urls: Sequence[Any] | None = None,
) -> Callable[..., "Received"]:
    """Return a client of a site whose page is *respond*, inside of *layers*, the innermost first.

    The page is a view of the same kind as the server, unless *is_async_view* says otherwise. *urls*
    are those of other views.
    """
    client: Any = (AsyncClient if is_async else Client)(raise_request_exception=False)
    if urls is None and (is_async if is_async_view is None else is_async_view):
        urls = async_urls
    _middlewares[:] = [_responding(respond, urls), *map(_to_middleware, reversed(layers))]
    names = [f"{__name__}.middleware_{number}" for number in range(len(_middlewares))]
    with override_settings(MIDDLEWARE=names):
        client.handler.load_middleware(is_async=is_async)

    def get(
        path: str = "/", *, method: str = "GET", headers: Any = None, body: bytes = b""
    ) -> Received:
        content_type = (headers or {}).get("Content-Type", "application/octet-stream")
        given = (method, path, body, content_type)
        if is_async:
            return asyncio.run(_areceive(client.generic(*given, headers=headers)))
        return _receive(client.generic(*given, headers=headers))

    return get


class Received(NamedTuple):
    """What a client gets; a stream that breaks off is a 500."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


def _receive(response: Any) -> Received:
    try:
        body = response.getvalue() if response.streaming else response.content
    except RuntimeError:
        return Received(500, [], b"")
    return Received(response.status_code, list(response.items()), body)


async def _areceive(responding: Any) -> Received:
    response = await responding
    if not response.streaming:
        return _receive(response)
    try:
        body = b"".join([chunk async for chunk in response])
    except RuntimeError:
        return Received(500, [], b"")
    return Received(response.status_code, list(response.items()), body)
