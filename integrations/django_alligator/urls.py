"""The addresses of the endpoint: ``path("alligator/", include("django_alligator.urls"))``."""

urlpatterns: list[object] = []
