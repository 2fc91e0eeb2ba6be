"""Send mail: the slow part of a request, as plain functions with plain arguments."""

from email.message import EmailMessage
from mailbox import Maildir

from .database import DATA, Person, Post, db


def send_post_email(post_id: int, follower_id: int) -> None:
    """Notify a follower of a new post."""
    _send(post_id, follower_id, "A new post by {author}")


def send_mention_email(post_id: int, person_id: int) -> None:
    """Notify a person whom a post mentions."""
    _send(post_id, person_id, "{author} mentions you")


def _send(post_id: int, person_id: int, subject: str) -> None:
    # Only ids travel: what they stand for is read here, and so it is never stale.
    post = db.session.get_one(Post, post_id)
    person = db.session.get_one(Person, person_id)
    mail = EmailMessage()
    mail["From"] = "SoSocial <post@sosocial.example>"
    mail["To"] = person.email
    mail["Subject"] = subject.format(author=post.author.name)
    mail.set_content(post.message)
    outbox().add(mail)  # a real one: smtplib.SMTP("localhost").send_message(mail)


def outbox() -> Maildir:
    """Open the folder of the mails: one file for each."""
    DATA.mkdir(parents=True, exist_ok=True)
    return Maildir(DATA / "outbox")
