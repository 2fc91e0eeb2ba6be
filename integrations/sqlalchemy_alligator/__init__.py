"""Alligator for SQLAlchemy: rows and tasks are committed together."""

from .sessions import enlist as enlist
from .table import outbox_table as outbox_table
