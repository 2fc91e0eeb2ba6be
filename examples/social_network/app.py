"""A social network: your followers get a mail when you post."""

import os
import re
from email import message_from_bytes
from email.policy import default
from secrets import token_bytes
from sqlite3 import Connection
from uuid import uuid4

from flask import Flask, abort, redirect, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException

from flask_alligator import Alligator, current

from . import database, operators
from .tasks import outbox, send_mention_email, send_post_email

app = Flask(__name__)
app.secret_key = os.environ.get("SECRET_KEY") or token_bytes()
app.config.update(
    ALLIGATOR_AUTHORIZE=operators.is_operator, ALLIGATOR_ACTIONS=True, ALLIGATOR_DETAILS=True
)
app.register_blueprint(operators.pages)
alligator = Alligator(app)


@app.post("/posts")
def new_post() -> ResponseReturnValue:
    """Save a post, and start tasks that mail its readers; the client does not wait for them."""
    message = request.form["message"].strip() or abort(422, "Say something.")
    with database.connect() as db:
        author = _person(db, request.form["author"])
        # After a 503 the client sends the form again. Its key makes that the same post.
        post = database.add_post(db, author, message, request.form["key"])
        # One task for each mail: when one fails, only that one is tried again.
        with alligator.options(retries=3) as opts:
            for follower in database.followers(db, author):
                opts.task(send_post_email, post, follower)
            for name in re.findall(r"@(\w+)", message):
                person = database.find_person(db, name)
                if person is None:
                    abort(422, f"There is no @{name}. {len(current.tasks)} mails are not sent.")
                opts.task(send_mention_email, post, person)
    # The database has committed, and only then the tasks go out: each will find its post.
    return redirect("/", 303)


@app.post("/people")
def sign_up() -> ResponseReturnValue:
    """Log a person in. There are no passwords in this example."""
    name, email = request.form["name"], request.form["email"]
    if not re.fullmatch(r"\w{1,30}", name) or not re.fullmatch(r"[^@\s]+@[^@\s]+", email):
        abort(422, "A name is one word, and an address has an @.")
    with database.connect() as db:
        db.execute("INSERT OR IGNORE INTO people (name, email) VALUES (?, ?)", [name, email])
    return redirect("/", 303)


@app.post("/follows")
def follow() -> ResponseReturnValue:
    """Make one person follow another."""
    with database.connect() as db:
        pair = [_person(db, request.form[role]) for role in ("follower", "followed")]
        db.execute("INSERT OR IGNORE INTO follows (follower, followed) VALUES (?, ?)", pair)
    return redirect("/", 303)


@app.get("/")
def feed() -> str:
    """Show everything on one page."""
    with database.connect() as db:
        people = db.execute(
            "SELECT name, (SELECT group_concat(reader.name, ', ') FROM follows "
            "JOIN people reader ON reader.id = follower WHERE followed = people.id) AS readers "
            "FROM people ORDER BY name"
        ).fetchall()
        posts = db.execute(
            "SELECT name, message FROM posts JOIN people ON people.id = author ORDER BY posts.id DESC"
        ).fetchall()
    return render_template("feed.html", people=people, posts=posts, key=uuid4())


@app.get("/outbox")
def show_outbox() -> str:
    """Show the mails that the worker has sent."""
    box = outbox()
    mails = [message_from_bytes(box.get_bytes(key), policy=default) for key in sorted(box.keys())]
    return render_template("outbox.html", mails=reversed(mails))


@app.errorhandler(HTTPException)
def say(error: HTTPException) -> ResponseReturnValue:
    """Return errors as plain text."""
    return (
        f"{error.description}\n",
        error.code or 500,
        {"Content-Type": "text/plain; charset=utf-8"},
    )


def _person(db: Connection, name: str) -> int:
    person = database.find_person(db, name)
    return abort(422, f"There is no {name}.") if person is None else person
