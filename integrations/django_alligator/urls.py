"""The addresses of the endpoint: ``path("alligator/", include("django_alligator.urls"))``."""

from django.urls import re_path

from .endpoint import pages, to_view

app_name = "django_alligator"

urlpatterns = [re_path(r"^(?P<page>.*)$", to_view(pages), name="page")]
