"""Send mail: the slow part of a request, as plain functions with plain arguments."""

from django.core.mail import send_mail

from .models import Person, Post

SENDER = "SoSocial <post@sosocial.example>"


def send_post_email(post_id: int, follower_id: int) -> None:
    """Notify a follower of a new post."""
    _send(post_id, follower_id, "A new post by {author}")


def send_mention_email(post_id: int, person_id: int) -> None:
    """Notify a person whom a post mentions."""
    _send(post_id, person_id, "{author} mentions you")


def _send(post_id: int, person_id: int, subject: str) -> None:
    # Only ids travel: what they stand for is read here, and so it is never stale.
    post = Post.objects.select_related("author").get(pk=post_id)
    person = Person.objects.get(pk=person_id)
    send_mail(subject.format(author=post.author.name), post.message, SENDER, [person.email])
