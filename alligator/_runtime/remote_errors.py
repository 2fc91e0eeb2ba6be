"""Send an exception to another process, so that error trackers there see its type and its frames."""

import ast
from collections.abc import Mapping
from itertools import islice
from types import CodeType, TracebackType
from typing import Any

MAX_FRAMES = 100
"""How many frames of each exception are sent, the innermost ones."""

MAX_CHAIN = 8
"""How many exceptions of a chain are sent."""

MAX_TEXT = 10_000
"""How long a message or a note may be, in characters."""


def pack(error: BaseException, limit: int = MAX_CHAIN) -> dict[str, Any]:
    """Return *error* as a JSON document for `unpack`.

    May raise any exception, because *error* may run its own code when its message is read.
    """
    kind = type(error)
    before = error.__cause__
    is_cause = before is not None
    if before is None and not error.__suppress_context__:
        before = error.__context__
    notes = getattr(error, "__notes__", ())
    return {
        "module": str(kind.__module__),
        "name": str(kind.__qualname__),
        "message": str(error)[:MAX_TEXT],
        "notes": [str(note)[:MAX_TEXT] for note in islice(notes, 10)],
        "frames": _pack_frames(error.__traceback__),
        "is_cause": is_cause,
        "before": pack(before, limit - 1) if before is not None and limit > 1 else None,
    }


def unpack(packed: Mapping[str, Any], base: type[Exception]) -> Exception:
    """Return an exception of the same name and message, with frames at the same lines.

    Its class is created here and derives from *base*: the original class may not exist here.
    """
    kind = type(packed["name"].rpartition(".")[2], (base,), {"__module__": packed["module"]})
    kind.__qualname__ = packed["name"]
    error: Exception = kind(packed["message"])
    for note in packed["notes"]:
        error.add_note(note)
    if packed["before"] is not None:
        before = unpack(packed["before"], base)
        if packed["is_cause"]:
            error.__cause__ = before
        else:
            error.__context__ = before
    return error.with_traceback(_unpack_frames(packed["frames"]))


def _pack_frames(traceback: TracebackType | None) -> list[list[Any]]:
    frames: list[list[Any]] = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__")
        place = list(_position(code, traceback))
        frames.append([code.co_filename, code.co_qualname, code.co_name, str(module), place])
        traceback = traceback.tb_next
    return frames[-MAX_FRAMES:]


def _position(code: CodeType, traceback: TracebackType) -> tuple[int, int, int, int]:
    """Return the first and last line of what was executed, and the first and last column."""
    found = next(islice(code.co_positions(), traceback.tb_lasti // 2, None), None)
    if found is None or None in found:  # Python does not keep columns with -X no_debug_ranges
        return (traceback.tb_lineno, traceback.tb_lineno, 0, 0)
    return found  # type: ignore[return-value]


def _unpack_frames(frames: list[list[Any]]) -> TracebackType | None:
    traceback = None
    for frame in reversed(frames):
        traceback = _unpack_frame(frame, traceback)
    return traceback


def _unpack_frame(packed: list[Any], following: TracebackType | None) -> TracebackType:
    """Return a traceback at the place of *packed*; only running code creates a frame."""
    filename, qualified, name, module, (line, last, column, end) = packed
    place = {"lineno": line, "end_lineno": last, "col_offset": column, "end_col_offset": end}
    raised = ast.Raise(exc=ast.Name(id="stop", ctx=ast.Load(), **place), cause=None, **place)
    code = compile(ast.Module(body=[raised], type_ignores=[]), filename, "exec")
    code = code.replace(co_name=name, co_qualname=qualified)
    try:
        exec(code, {"__name__": module, "__file__": filename, "stop": _Stop}, {})  # noqa: S102
    except _Stop as stop:
        if stop.__traceback__ is not None and (made := stop.__traceback__.tb_next) is not None:
            return TracebackType(following, made.tb_frame, made.tb_lasti, line)
    raise ValueError("the frame could not be created")


class _Stop(Exception):
    """Ends the code that is run only to get its frame."""
