"""A Django project in files."""

from pathlib import Path

import pytest

from tests.harness.django_files import DjangoProject


@pytest.fixture
def project(tmp_path: Path) -> DjangoProject:
    return DjangoProject(tmp_path)
