"""Who may see the pages of the endpoint."""

from django.http import HttpRequest


def is_active_staff(request: HttpRequest) -> bool:
    """Return whether the visitor has logged in, and may use Django's admin."""
    user = getattr(request, "user", None)
    return user is not None and user.is_active is True and user.is_staff is True
