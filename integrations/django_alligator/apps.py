"""The Django app."""

from django.apps import AppConfig
from django.core.signals import setting_changed


class AlligatorConfig(AppConfig):
    """Connects Alligator with the project when Django is set up."""

    name = "django_alligator"
    verbose_name = "Alligator"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect the parts that have to know of Django's events."""
        from .checks import register_checks
        from .setting_changes import follow_settings

        register_checks()
        setting_changed.connect(follow_settings, dispatch_uid="django_alligator")
