"""Payloads of tasks that another program wrote."""

import json
import sys
from typing import Any

DEEP: int = 100 if sys.platform == "emscripten" else 100_000
"""How deeply garbage is nested: msgspec overflows the small stack of WebAssembly."""


def payload(module: str, name: str, *args: object, **options: Any) -> str:
    """Return the payload of a task that another program wrote."""
    return json.dumps(
        {
            "task_id": "a",
            "retries": 0,
            "is_async": True,
            "module": module,
            "callable": name,
            "args": args,
            "kwargs": {},
            "options": options,
        }
    )
