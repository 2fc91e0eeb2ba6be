"""Alligator for Flask: the extension and the transaction of the current request."""

from .extension import Alligator as Alligator
from .extension import current as current
