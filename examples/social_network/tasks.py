"""Send mail: the slow part of a request, as plain functions with plain arguments."""

from email.message import EmailMessage
from mailbox import Maildir

from .database import DATA, connect


def send_post_email(post_id: int, follower_id: int) -> None:
    """Notify a follower of a new post."""
    _send(post_id, follower_id, "A new post by {author}")


def send_mention_email(post_id: int, person_id: int) -> None:
    """Notify a person whom a post mentions."""
    _send(post_id, person_id, "{author} mentions you")


def _send(post_id: int, person_id: int, subject: str) -> None:
    # Only ids travel: what they stand for is read here, and so it is never stale.
    with connect() as db:
        post = db.execute(
            "SELECT message, name FROM posts JOIN people ON people.id = author WHERE posts.id = ?",
            [post_id],
        ).fetchone()
        person = db.execute("SELECT email FROM people WHERE id = ?", [person_id]).fetchone()
    mail = EmailMessage()
    mail["From"] = "SoSocial <post@sosocial.example>"
    mail["To"] = person["email"]
    mail["Subject"] = subject.format(author=post["name"])
    mail.set_content(post["message"])
    outbox().add(mail)  # a real one: smtplib.SMTP("localhost").send_message(mail)


def outbox() -> Maildir:
    """Open the folder of the mails: one file for each."""
    DATA.mkdir(parents=True, exist_ok=True)
    return Maildir(DATA / "outbox")
