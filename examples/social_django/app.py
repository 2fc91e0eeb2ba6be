"""The application of WSGI servers."""

import os

from django.core.wsgi import get_wsgi_application

from django_alligator import gator as gator

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.social_django.settings")
app = get_wsgi_application()
