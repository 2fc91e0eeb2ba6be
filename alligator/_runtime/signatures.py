"""Read the signature of a callable without evaluating its annotations."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any


def signature(func: Callable[..., Any], *, follow_wrapped: bool = True) -> inspect.Signature:
    """Return the signature of *func*; do not use the annotations in it.

    From Python 3.14 on, annotations are evaluated when they are read, which raises for names that are
    imported for type checkers only. This may still raise any exception, because an object may compute
    its signature.
    """
    func = _without_annotations(func)
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        # Annotations of a class are read as strings, which needs no names but may still fail.
        return inspect.signature(
            func, follow_wrapped=follow_wrapped, annotation_format=Format.STRING
        )
    return inspect.signature(func, follow_wrapped=follow_wrapped)


def _without_annotations(func: Callable[..., Any]) -> Callable[..., Any]:
    """Return a callable with the parameters of *func*: without annotations, unless *func* is a class."""
    if isinstance(func, MethodType):
        return MethodType(_without_annotations(func.__func__), func.__self__)
    if isinstance(func, partial):
        return partial(_without_annotations(func.func), *func.args, **func.keywords)
    if isinstance(func, FunctionType):
        bare = FunctionType(
            func.__code__, func.__globals__, func.__name__, func.__defaults__, func.__closure__
        )
        bare.__kwdefaults__ = func.__kwdefaults__
        bare.__dict__.update(func.__dict__)  # it may have a __signature__
        return bare
    call = getattr(type(func), "__call__", None)  # noqa: B004 - not whether, but which
    if isinstance(call, FunctionType) and not hasattr(func, "__signature__"):
        return MethodType(_without_annotations(call), func)
    return func
