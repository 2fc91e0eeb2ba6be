"""Rows whose tasks must exist if, and only if, they do."""

from typing import Any

from django.contrib import admin
from django.db import models
from django.db.models.signals import post_save
from django.dispatch import receiver

from django_alligator import gator

RAN: list[str] = []
"""The names of the orders whose tasks ran."""


class Order(models.Model):
    """An order."""

    name: Any = models.CharField(max_length=64)

    def __str__(self) -> str:
        return str(self.name)


admin.site.register(Order)


@receiver(post_save, sender=Order)
def start(instance: Order, **_: Any) -> None:
    """Start the task of an order."""
    gator.task(note, instance.name)


def note(name: str) -> None:
    """Note that this task ran."""
    RAN.append(name)
