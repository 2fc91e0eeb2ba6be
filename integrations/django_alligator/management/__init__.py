"""The management command of Django."""
