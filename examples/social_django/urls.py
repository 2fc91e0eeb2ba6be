"""The addresses of the pages."""

from django.contrib import admin
from django.contrib.staticfiles.views import serve
from django.urls import include, path

from . import views

urlpatterns = [
    path("", views.feed),
    path("posts", views.new_post),
    path("people", views.sign_up),
    path("follows", views.follow),
    path("outbox", views.outbox),
    path("admin/", admin.site.urls),
    path("alligator/", include("django_alligator.urls")),
    # For this example: a real server serves these files itself.
    path("static/<path:path>", serve, {"insecure": True}),
]
