"""Describe the endpoint to programs, as OpenAPI has it."""

from typing import Any

from . import __version__
from .dashboard.actions import MOST_CHOSEN
from .http import FORM, HEALTH_JSON, JSON, PROBLEM_JSON

TITLE = "Alligator"


def describe(stores: int) -> dict[str, Any]:
    """Make the document, for so many *stores*; addresses in it are relative to its own."""
    closed: list[dict[str, list[str]]] = [{"token": []}]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": __version__,
            "description": "How the queue is, and what may be done about it.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/": {"get": _get("The dashboard", "text/html", closed, parameters=_LOOK, also=_AWAY)},
            "/actions": {"post": _act(stores)},
            "/health": {"get": _health("Whether tasks can be put on the queue")},
            "/health/ready": {"get": _health("The same")},
            "/health/live": {"get": _get("Whether the process lives", HEALTH_JSON, [])},
            "/stats": {"get": _get("Queues and workers", JSON, closed, also=_BUSY)},
            "/metrics": {
                "get": _get("The same for Prometheus", "text/plain", closed, also=_SCRAPE)
            },
            "/openapi.json": {"get": _get("This document", JSON, closed)},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "problem": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                    },
                },
                "health": {
                    "type": "object",
                    "required": ["status"],
                    "properties": {
                        "status": {"enum": ["pass", "warn", "fail"]},
                        "notes": {"type": "array", "items": {"type": "string"}},
                        "checks": {"type": "object"},
                    },
                },
            },
        },
    }


def _content(media_type: str) -> dict[str, Any]:
    if media_type == HEALTH_JSON:
        return {media_type: {"schema": {"$ref": "#/components/schemas/health"}}}
    return {
        media_type: {"schema": {"type": "string" if media_type.startswith("text/") else "object"}}
    }


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/problem"}
    return {
        "description": description,
        "content": {
            PROBLEM_JSON: {"schema": schema},
            "text/html": {"schema": {"type": "string"}},
        },
    }


def _get(
    summary: str,
    media_type: str,
    security: list[dict[str, list[str]]],
    *,
    parameters: Any = (),
    also: Any = (),
) -> dict[str, Any]:
    responses = {"200": {"description": summary, "content": _content(media_type)}, **dict(also)}
    if security:
        responses["403"] = _problem("It is closed to the caller")
    return {
        "summary": summary,
        "security": security,
        "parameters": list(parameters),
        "responses": responses,
    }


def _health(summary: str) -> dict[str, Any]:
    fail = {"503": {"description": "It fails", "content": _content(HEALTH_JSON)}}
    return _get(summary, HEALTH_JSON, [{}, {"token": []}], also=fail)


_BUSY = {"503": _problem("The store does not answer")}

_SCRAPE = {**_BUSY, "501": _problem("prometheus_client is not installed")}

_AWAY = {
    "501": _problem("Jinja is not installed"),
    "503": {
        "description": "The store does not answer",
        "content": {**_BUSY["503"]["content"], "text/html": {"schema": {"type": "string"}}},
    },
}

_LOOK = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
    for name, text, schema in (
        ("queue", "List the tasks of this queue only", {"type": "string"}),
        ("task", "Open the details of the task with this key", {"type": "string"}),
        ("of", "The queue of that task, to look for it there", {"type": "string"}),
        ("limit", "List so many tasks; 200 at most", {"type": "integer"}),
        ("live", "Only the part of the page that changes", {"type": "string"}),
    )
]


def _act(stores: int) -> dict[str, Any]:
    given = {"type": "string", "minLength": 1}
    empty = {"type": "string", "maxLength": 0}
    store = {"type": "integer", "minimum": 0, "maximum": stores - 1, "default": 0}
    one_of_them = {"enum": ["retry", "drop", "cancel"]}
    word = "[A-Za-z0-9_.~+%-]+"
    numbers = "|".join(map(str, range(stores)))
    chosen = {
        "type": "array",
        "description": "Each is a query of its own, with the store, the queue and the task",
        "minItems": 1,
        "maxItems": MOST_CHOSEN,
        "items": {
            "type": "string",
            "pattern": f"^((store=({numbers})&)?queue={word}&task={word})?$",
        },
    }
    none = {"type": "array", "maxItems": 0}
    forms: list[dict[str, Any]] = [
        {"do": one_of_them, "store": store, "queue": given, "task": given, "chosen": none},
        {"do": one_of_them, "queue": empty, "task": empty, "chosen": chosen},
        {
            "do": {"enum": ["retry-all", "drop-all"]},
            "store": store,
            "queue": given,
            "task": empty,
            "chosen": none,
        },
    ]
    alternatives = [
        {
            "type": "object",
            "required": [
                name for name in form if name != "store" and form[name] not in (empty, none)
            ],
            "properties": {**form, "csrf": {"type": "string"}},
        }
        for form in forms
    ]
    return {
        "summary": "Retry, drop or cancel a task, or several, or all dead tasks of a queue",
        "security": [{"token": []}],
        "requestBody": {
            "required": True,
            "content": {FORM: {"schema": {"oneOf": alternatives}}},
        },
        "responses": {
            "303": {"description": "It is done; see the page"},
            "403": _problem("It is closed to the caller, or read-only"),
            "413": _problem("The form is too long"),
            "415": _problem("It is not a form"),
            "422": _problem("The form does not say what to do, or to what"),
            "503": _problem("The store does not answer"),
        },
    }
