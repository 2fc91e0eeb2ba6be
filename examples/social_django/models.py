"""People, their followers and their posts."""

from django.db import models


class Person(models.Model):
    """Somebody who reads and posts."""

    name = models.CharField(max_length=30, unique=True)
    email = models.EmailField()
    followers = models.ManyToManyField("self", symmetrical=False, related_name="followed")

    def __str__(self) -> str:
        return self.name


class Post(models.Model):
    """What somebody has posted; the same form sent twice is one post."""

    author = models.ForeignKey(Person, models.CASCADE)
    message = models.TextField()
    form_key = models.CharField(max_length=40, unique=True)

    def __str__(self) -> str:
        return self.message[:40]
