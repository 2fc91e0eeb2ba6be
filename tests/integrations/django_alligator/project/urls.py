"""Views that save an order, whose task is started by a signal."""

from asgiref.sync import sync_to_async
from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path

from tests.integrations.django_alligator.project.models import Order


def save(request: HttpRequest) -> HttpResponse:
    """Save an order; then do what the request says."""
    Order.objects.create(name=request.GET["name"])
    if request.GET.get("fate") == "raise":
        raise RuntimeError
    if request.GET.get("fate") == "rollback":
        transaction.set_rollback(True)
    return HttpResponse(status=int(request.GET.get("status", 200)))


@transaction.non_atomic_requests
def plain(request: HttpRequest) -> HttpResponse:
    """Save an order outside of a transaction."""
    return save(request)


@transaction.non_atomic_requests
def block(request: HttpRequest) -> HttpResponse:
    """Save an order in a block of the view."""
    with transaction.atomic():
        return save(request)


@transaction.non_atomic_requests
async def asynchronous(request: HttpRequest) -> HttpResponse:
    """Save an order in a block, in another thread than that of the view."""
    return await sync_to_async(block)(request)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("atomic-requests/", save),
    path("plain/", plain),
    path("block/", block),
    path("async/", asynchronous),
]
