"""The app of the project."""

from pathlib import Path

from django.apps import AppConfig


class Project(AppConfig):
    """An app in a folder that is no package."""

    name = "tests.integrations.django_alligator.project"
    label = "project"
    path = str(Path(__file__).parent)
