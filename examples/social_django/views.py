"""The pages: a post is saved, and its readers get their mail later."""

import re
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.http import require_GET, require_POST

from django_alligator import gator

from .models import Person, Post
from .tasks import send_mention_email, send_post_email


class Refused(Exception):
    """What was sent is not accepted; the message is for the client."""


class SeeOther(HttpResponseRedirect):
    """Send the browser to the feed after a form."""

    status_code = 303


@require_POST
def new_post(request: HttpRequest) -> HttpResponse:
    """Save a post, and start tasks that mail its readers; the client does not wait for them."""
    try:
        with transaction.atomic():
            _publish(request.POST["author"], request.POST["message"].strip(), request.POST["key"])
    except Refused as refused:  # neither the post nor a mail exists
        return _refuse(refused)
    return SeeOther("/")


def _publish(name: str, message: str, key: str) -> None:
    if not message:
        raise Refused("Say something.")
    author = _person(name)
    # After a 503 the client sends the form again. Its key makes that the same post.
    post, _ = Post.objects.get_or_create(
        form_key=key, defaults={"author": author, "message": message}
    )
    # One task for each mail: when one fails, only that one is tried again.
    with gator.options(retries=3) as opts:
        tasks = [
            opts.task(send_post_email, post.pk, follower.pk) for follower in author.followers.all()
        ]
        for mentioned in re.findall(r"@(\w+)", message):
            person = Person.objects.filter(name=mentioned).first()
            if person is None:
                raise Refused(f"There is no @{mentioned}. {len(tasks)} mails are not sent.")
            tasks.append(opts.task(send_mention_email, post.pk, person.pk))


@require_POST
def sign_up(request: HttpRequest) -> HttpResponse:
    """Add a person. There are no passwords in this example."""
    person = Person(name=request.POST["name"], email=request.POST["email"])
    if not Person.objects.filter(name=person.name).exists():
        try:
            person.full_clean()
        except ValidationError as error:
            return _refuse(error)
        person.save()
    return SeeOther("/")


@require_POST
def follow(request: HttpRequest) -> HttpResponse:
    """Make one person follow another."""
    try:
        _person(request.POST["followed"]).followers.add(_person(request.POST["follower"]))
    except Refused as refused:
        return _refuse(refused)
    return SeeOther("/")


@require_GET
def feed(request: HttpRequest) -> HttpResponse:
    """Show everything on one page."""
    context = {
        "people": Person.objects.prefetch_related("followers").order_by("name"),
        "posts": Post.objects.select_related("author").order_by("-pk"),
        "key": uuid4(),
    }
    return render(request, "social_django/feed.html", context)


@require_GET
@xframe_options_sameorigin
def outbox(request: HttpRequest) -> HttpResponse:
    """Show the mails that the worker has sent."""
    files = sorted(Path(settings.EMAIL_FILE_PATH).glob("*.log"), reverse=True)
    mails = [_read(file) for file in files]
    return render(request, "social_django/outbox.html", {"mails": mails})


def _read(file: Path) -> dict[str, str]:
    mail = message_from_bytes(file.read_bytes().rpartition(b"\n---")[0], policy=default)
    assert isinstance(mail, EmailMessage)
    return {"subject": mail["subject"], "to": mail["to"], "text": mail.get_content()}


def _person(name: str) -> Person:
    person = Person.objects.filter(name=name).first()
    if person is None:
        raise Refused(f"There is no {name}.")
    return person


def _refuse(error: Exception) -> HttpResponse:
    return HttpResponse(f"{error}\n", "text/plain; charset=utf-8", status=422)
