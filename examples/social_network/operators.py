"""Open the dashboard to operators, who know the token."""

import os
from hmac import compare_digest

from flask import Blueprint, Request, abort, redirect, render_template, request, session
from flask.typing import ResponseReturnValue

pages = Blueprint("operators", __name__)


def is_operator(request: Request) -> bool:
    """Return whether the session is that of an operator; the endpoint calls this."""
    return bool(session.get("operator"))


@pages.get("/operator")
def ask() -> str:
    """Ask for the token."""
    return render_template("operator.html")


@pages.post("/operator")
def log_in() -> ResponseReturnValue:
    """Start the session of an operator."""
    token = os.environ.get("ALLIGATOR_TOKEN", "")
    if not token or not compare_digest(request.form["token"].strip().encode(), token.encode()):
        abort(403, "That is not the token.")
    session["operator"] = True
    return redirect("/alligator/", 303)
