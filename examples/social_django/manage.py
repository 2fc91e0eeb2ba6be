"""Django's command line: ``python -m examples.social_django.manage alligator worker``."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.social_django.settings")
    execute_from_command_line(sys.argv)
