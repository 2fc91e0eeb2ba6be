"""The gator of the settings, however early it is used, and after its setting was overridden."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from django_alligator import gator
from tests.harness.django_files import DjangoProject
from tests.harness.sample_tasks import add


def test_gator_that_models_use_follows_transactions(project: DjangoProject) -> None:
    """Django imports the models of all apps before it calls `ready` of the first."""
    models = project.folder / "shop" / "models.py"
    models.write_text(
        f"{models.read_text()}\nfrom django_alligator import gator\n"
        "gator.every(60, len, [1], name='early')\n"
    )

    done = project.manage(
        "shell", "-c", "from django_alligator import gator; print(len(gator.relays))"
    )

    assert done.stdout.splitlines()[-1:] == ["1"], done.stderr


@pytest.fixture
def schedule() -> Iterator[str]:
    """Add a schedule, as a module does when it is imported, and remove it."""
    with override_settings(ALLIGATOR={"CONN": "locmem://"}):
        name = gator.every(60, add, 1, 2, name="of_settings_gator").name
    yield name
    del gator.schedules[name]


def test_schedules_remain_when_the_setting_is_overridden(schedule: str) -> None:
    with override_settings(ALLIGATOR={"CONN": "locmem://", "PREFIX": "other"}):
        task = gator.run_schedule(schedule)

    assert task.func is add
