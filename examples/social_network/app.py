"""A social network: your followers get a mail when you post."""

import os
import re
from email import message_from_bytes
from email.policy import default
from secrets import token_bytes
from uuid import uuid4

from flask import Flask, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from werkzeug.exceptions import HTTPException

from flask_alligator import Alligator
from sqlalchemy_alligator import enlist

from . import operators
from .database import URL, Person, Post, create_tables, db, find_person, find_post
from .tasks import outbox, send_mention_email, send_post_email

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or token_bytes()
app.config.update(
    SQLALCHEMY_DATABASE_URI=URL,
    ALLIGATOR_AUTHORIZE=operators.is_operator,
    ALLIGATOR_ACTIONS=True,
    ALLIGATOR_DETAILS=True,
)
app.register_blueprint(operators.pages)
db.init_app(app)
alligator = Alligator(app)
with app.app_context():
    enlist(alligator.gator, db.session)
    create_tables()


@app.post("/posts")
def new_post() -> ResponseReturnValue:
    """Save a post, and start tasks that mail its readers; the client does not wait for them."""
    message = request.form["message"].strip() or abort(422, "Say something.")
    author, key = _person(request.form["author"]), request.form["key"]
    if find_post(key) is not None:  # the form was sent again, so its tasks are there, too
        return redirect("/", 303)
    post = Post(author=author, message=message, form_key=key)
    db.session.add(post)
    db.session.flush()  # gives the post its id
    # One task for each mail: when one fails, only that one is tried again. Authors take turns, so that
    # one with many readers holds up no other.
    with alligator.options(retries=3, limit_key=author.name) as opts:
        mails = [opts.task(send_post_email, post.id, reader.id) for reader in author.readers]
        for name in re.findall(r"@(\w+)", message):
            person = find_person(name)
            if person is None:
                abort(422, f"There is no @{name}. {len(mails)} mails are not sent.")
            mails.append(opts.task(send_mention_email, post.id, person.id))
    db.session.commit()  # the post and its tasks; without it, both are gone
    return redirect("/", 303)


@app.post("/people")
def sign_up() -> ResponseReturnValue:
    """Log a person in. There are no passwords in this example."""
    name, email = request.form["name"], request.form["email"]
    if not re.fullmatch(r"\w{1,30}", name) or not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        abort(422, "A name is one word, and an address has an @.")
    if find_person(name) is None:
        db.session.add(Person(name=name, email=email))
        db.session.commit()
    return redirect("/", 303)


@app.post("/follows")
def follow() -> ResponseReturnValue:
    """Make one person follow another."""
    follower, followed = (_person(request.form[role]) for role in ("follower", "followed"))
    if follower not in followed.readers:
        followed.readers.append(follower)
        db.session.commit()
    return redirect("/", 303)


@app.get("/")
def feed() -> str:
    """Show everything on one page."""
    people = db.session.scalars(select(Person).order_by(Person.name)).all()
    posts = db.session.scalars(select(Post).order_by(Post.id.desc())).all()
    return render_template("feed.html", people=people, posts=posts, key=uuid4())


@app.get("/outbox")
def show_outbox() -> str:
    """Show the mails that the worker has sent."""
    box = outbox()
    mails = [message_from_bytes(box.get_bytes(key), policy=default) for key in sorted(box.keys())]
    return render_template("outbox.html", mails=reversed(mails))


@app.errorhandler(HTTPException)
def say(error: HTTPException) -> ResponseReturnValue:
    """Return errors as plain text, and undo what the view has not committed."""
    db.session.rollback()
    return (
        f"{error.description}\n",
        error.code or 500,
        {"Content-Type": "text/plain; charset=utf-8"},
    )


def _person(name: str) -> Person:
    return find_person(name) or abort(422, f"There is no {name}.")
