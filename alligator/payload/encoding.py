"""Encode values as JSON in ASCII, and decode JSON.

msgspec does it. The `json` module is used for the rest: lone surrogates, which msgspec refuses, and
NaN, which Alligator 1.0 has written.
"""

import json
import re
from typing import Any

import msgspec

# Before 0.21, the errors of msgspec are no ValueErrors.
ENCODING_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
"""What `encode` raises for a value that cannot be written as JSON."""

DECODING_ERRORS = (ValueError, RecursionError, msgspec.MsgspecError)
"""What `decode` raises for a text that is not JSON."""

NOT_ASCII = re.compile(r"[^\x00-\x7f]+")

_any_json = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def _as_base(value: object) -> object:
    """Return a string or a number of a subclass as one of its base class."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__index__(value)
    if isinstance(value, float):
        return float.__float__(value)
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


_encode = msgspec.json.Encoder(enc_hook=_as_base).encode
_decode = msgspec.json.Decoder().decode


def encode(value: Any) -> str:
    """Encode a value that consists of types of JSON; raises one of `ENCODING_ERRORS`.

    It writes what msgspec can write, so check the types first: a datetime becomes a string, NaN null.
    """
    try:
        text = _encode(value).decode()
    except UnicodeEncodeError:  # a lone surrogate
        return encode_any(msgspec.to_builtins(value, enc_hook=_as_base))
    return text if text.isascii() else NOT_ASCII.sub(_escape, text)


def encode_any(value: Any) -> str:
    """Encode whatever `decode` can return: more slowly, but also NaN and lone surrogates."""
    return _any_json.encode(value)


def decode(text: str) -> Any:
    """Decode a value; raises one of `DECODING_ERRORS`."""
    try:
        return _decode(text)
    except (ValueError, msgspec.MsgspecError):
        return json.loads(text)


def _escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1]
