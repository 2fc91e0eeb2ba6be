"""A link to the dashboard in the index of Django's admin, for those who may see it."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from .endpoint import endpoint

_get_app_list = admin.site.get_app_list


def get_app_list(request: HttpRequest, app_label: str | None = None) -> list[Any]:
    """Return the apps of the admin's index, with the dashboard as one more."""
    found: list[Any] = _get_app_list(request, app_label)
    try:
        url = reverse("django_alligator:page", kwargs={"page": ""})
    except NoReverseMatch:  # the project does not include its addresses
        return found
    if app_label not in (None, "django_alligator") or not _is_allowed(request):
        return found
    return sorted([*found, _entry(url)], key=lambda app: str(app["name"]).lower())


def _is_allowed(request: HttpRequest) -> bool:
    try:
        return endpoint().is_allowed(request)
    except endpoint().refusals:
        return False


def _entry(url: str) -> dict[str, Any]:
    permissions = dict.fromkeys(["add", "change", "delete"], False)
    dashboard = {
        "name": "Dashboard",
        "object_name": "Dashboard",
        "perms": {**permissions, "view": True},
        "admin_url": url,
        "add_url": None,
        "view_only": True,
    }
    return {
        "name": "Alligator",
        "app_label": "django_alligator",
        "app_url": url,
        "has_module_perms": True,
        "models": [dashboard],
    }


# There is no model to register: the queue is not in the project's database.
admin.site.get_app_list = get_app_list  # type: ignore[method-assign]
