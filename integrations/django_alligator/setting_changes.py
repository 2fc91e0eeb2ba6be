"""Follow the setting when a test overrides it."""

from typing import Any

from .endpoint import endpoint
from .settings_gator import SettingsGator, gator


def follow_settings(*, setting: str, **_: Any) -> None:
    """Make the gator and its endpoint again after a test has overridden their setting."""
    if setting == "ALLIGATOR":
        assert isinstance(gator, SettingsGator)
        gator.forget()
        endpoint.cache_clear()
