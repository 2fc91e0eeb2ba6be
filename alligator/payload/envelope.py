"""The envelope: a task as JSON, and the signature before it. No other module knows its keys."""

from collections.abc import Mapping, Sequence
from sys import intern
from time import time
from typing import Any, NamedTuple

import msgspec

from ..exceptions import PayloadError
from ..options import check_seconds, check_timeout, check_whole
from .batch import without_batch
from .encoding import DECODING_ERRORS, decode, encode, encode_any

UNREADABLE = (*DECODING_ERRORS, LookupError, TypeError, AttributeError)
"""What reading the fields of invalid JSON raises."""

FORGET_SECONDS = 600.0
"""After that many seconds without a release, the count starts again."""


HOOKS = ("on_start", "on_success", "on_error")
"""The options that are functions."""


class FunctionName(msgspec.Struct):
    """A function, as a payload names it."""

    module: str
    callable: str

    def __str__(self) -> str:
        return f"{self.module}.{self.callable}"


class EnvelopeOptions(msgspec.Struct, omit_defaults=True):
    """The options of a task in its payload; only those that are set."""

    on_start: FunctionName | None = None
    on_success: FunctionName | None = None
    on_error: FunctionName | None = None
    delay_until: Any = None
    backoff: Any = None
    timeout: Any = None
    depends_on: Any = None
    retry_on: Any = None
    give_up_on: Any = None
    expires: Any = None
    priority: Any = None

    @property
    def hooks(self) -> dict[str, FunctionName]:
        """The hooks that are set."""
        hooks = {name: getattr(self, name) for name in HOOKS}
        return {name: hook for name, hook in hooks.items() if hook is not None}


NO_OPTIONS = EnvelopeOptions()


# The defaults of keys that are always written: msgspec omits list and dict when they are empty.


def _no_args() -> Sequence[Any]:
    return []


def _no_kwargs() -> Mapping[str, Any]:
    return {}


def _no_options() -> EnvelopeOptions:
    return NO_OPTIONS


class Envelope(msgspec.Struct, omit_defaults=True):
    """The payload of a task. Its first keys are those of Alligator 1.0; the others only if set."""

    task_id: str
    retries: Any
    is_async: Any
    module: str
    callable: str
    args: Sequence[Any] = msgspec.field(default_factory=_no_args)
    kwargs: Mapping[str, Any] = msgspec.field(default_factory=_no_kwargs)
    options: EnvelopeOptions | None = msgspec.field(default_factory=_no_options)
    headers: dict[str, str] = {}
    attempt: Any = 1
    error: str = ""
    released: Any = None
    """The releases of a task that workers could not run; see `Released`."""
    typed: Mapping[str, str] | None = None
    """The types of the arguments that annotations restore, by position or name."""

    @property
    def location(self) -> tuple[str, str]:
        """The module and the name of the function, as strings that all tasks of it share."""
        return intern(self.module), intern(self.callable)

    @property
    def functions(self) -> list[FunctionName]:
        """The names of the functions that a worker imports."""
        hooks = self.options.hooks.values() if self.options else ()
        return [FunctionName(self.module, self.callable), *hooks]


_read = msgspec.json.Decoder(Envelope).decode

KNOWN = frozenset(Envelope.__struct_encode_fields__)
KNOWN_OPTIONS = frozenset(EnvelopeOptions.__struct_encode_fields__)


class Released(NamedTuple):
    """The releases of a task that workers could not run."""

    since: float
    """The time of the first release, as a Unix timestamp."""
    times: int
    last: float


class Content(NamedTuple):
    """What a person wants to see of a payload; garbage may have fields of any type."""

    callable: str = "?"
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = {}
    options: Mapping[str, Any] = {}
    headers: Mapping[str, Any] = {}
    attempt: Any = 1


def write_call(
    args: Sequence[Any], kwargs: Mapping[str, Any], typed: Mapping[str, str] | None
) -> str:
    """Return the payload of a call that stays in this process, so nothing needs to be imported."""
    return encode(Envelope("", 0, True, "", "", args, kwargs, typed=typed))


def rewrite(envelope: Envelope, before: str) -> str:
    """Return the payload of a task that was read from the payload *before*.

    Its call is that of *before*, and so are all keys that this version does not know.
    """
    known: dict[str, Any] = msgspec.to_builtins(envelope)
    found = decode(before)
    options = _object(found.get("options") or {})
    unknown = {key: value for key, value in found.items() if key not in KNOWN}
    known["options"] |= {key: options[key] for key in options.keys() - KNOWN_OPTIONS}
    call = {key: found[key] for key in ("args", "kwargs", "typed") if key in found}
    return encode_any({**known, **call, **unknown})


def read(data: str) -> Envelope:
    """Return the envelope of a payload without a signature; raises `PayloadError`."""
    try:
        try:
            return _read(data)
        except (ValueError, msgspec.MsgspecError):  # it may be what only the json module reads
            return msgspec.convert(decode(data), Envelope)
    except UNREADABLE as error:
        raise PayloadError(f"this is not a task: {type(error).__name__}: {error}") from error


# The signature.


SCHEME = "hmac-sha256:"


def join(signature: str, data: str) -> str:
    """Return *data* with its signature."""
    return f"{SCHEME}{signature} {data}"


def split(sealed: str) -> tuple[str, str]:
    """Return the signature of a payload and its data, without the numbers of its batch.

    The signature is empty if it has none.

    >>> split('hmac-sha256:00ff {"task_id": "5f1c"}')
    ('00ff', '{"task_id": "5f1c"}')
    >>> split('{"task_id": "a b"}')
    ('', '{"task_id": "a b"}')
    """
    sealed = without_batch(sealed)
    if not sealed.startswith(SCHEME):
        return "", sealed
    signature, _, data = sealed.removeprefix(SCHEME).partition(" ")
    return signature, data


# Single fields, of a payload that may be signed, or garbage.


def task_id_in(data: str) -> str:
    """Return the id of a task; empty if there is none.

    >>> task_id_in('{"task_id": "5f1c"}'), task_id_in("garbage")
    ('5f1c', '')
    """
    found = _field(data, "task_id", "")
    return found if isinstance(found, str) else ""


def name_in(data: str) -> str:
    """Return the name of the function that a payload calls.

    >>> name_in('{"module": "shop.mail", "callable": "send"}'), name_in("garbage")
    ('shop.mail.send', '?')
    """
    try:
        fields = _fields(data)
        return f"{fields['module']}.{fields['callable']}"
    except UNREADABLE:
        return "?"


def timeout_in(data: str) -> float | None:
    """Return the timeout of a payload.

    >>> timeout_in('{"options": {"timeout": 2.5}}'), timeout_in("{}"), timeout_in("garbage")
    (2.5, None, None)
    """
    try:
        return check_timeout("timeout", _fields(data)["options"]["timeout"])
    except UNREADABLE:
        return None


def last_error_in(data: str) -> str:
    """Return the error of the previous attempt; empty if there was none.

    >>> last_error_in('{"error": "OSError: no luck"}'), last_error_in("garbage")
    ('OSError: no luck', '')
    """
    return str(_field(data, "error", ""))


def content_in(data: str) -> Content | None:
    """Return what a person wants to see of a payload; None if it cannot be read.

    >>> content_in('{"callable": "send", "args": [7]}')
    Content(callable='send', args=[7], kwargs={}, options={}, headers={}, attempt=1)
    """
    try:
        fields = _fields(data)
        args = fields.get("args", [])
        return Content(
            str(fields["callable"]),
            args if isinstance(args, list) else [args],
            _object(fields.get("kwargs")),
            _object(fields.get("options")),
            _object(fields.get("headers")),
            fields.get("attempt", 1),
        )
    except UNREADABLE:
        return None


def released_in(data: str) -> Released | None:
    """Return the releases of a payload; None if there were none.

    >>> released_in('{"released": [1.5, 2, 3.5]}')
    Released(since=1.5, times=2, last=3.5)
    >>> released_in("{}"), released_in("garbage")
    (None, None)
    """
    try:
        return _released(_fields(data))
    except UNREADABLE:
        return None


def note_release(data: str) -> tuple[str, Released]:
    """Return an unsigned payload with one more release, and its releases.

    Raises `PayloadError` if *data* is not a payload.
    """
    try:
        fields = decode(data)
        before = _released(fields)
        now = time()
        if before is None or before.last < now - FORGET_SECONDS:
            released = Released(now, 1, now)
        else:
            released = Released(min(before.since, now), before.times + 1, now)
        text = encode_any({**fields, "released": list(released)})
    except UNREADABLE as error:
        raise PayloadError(f"this is not a task: {error}") from error
    return text, released


def without_expiry(data: str) -> str:
    """Return an unsigned payload of a task that does not expire any more.

    Raises `PayloadError` if *data* is not a payload.

    >>> without_expiry('{"options": {"expires": 7, "timeout": 3}}')
    '{"options":{"timeout":3}}'
    """
    try:
        fields = decode(data)
        options = {key: value for key, value in fields["options"].items() if key != "expires"}
        return encode_any({**fields, "options": options})
    except UNREADABLE as error:
        raise PayloadError(f"this is not a task: {error}") from error


def _fields(data: str) -> Any:
    """Return the decoded JSON, which may be anything; raises one of `UNREADABLE`."""
    return decode(split(data)[1])


def _field(data: str, name: str, default: object) -> object:
    try:
        return _fields(data).get(name, default)
    except UNREADABLE:
        return default


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _released(fields: Mapping[str, Any]) -> Released | None:
    if "released" not in fields:
        return None
    since, times, last = fields["released"]
    return Released(
        check_seconds("since", since), check_whole("times", times), check_seconds("last", last)
    )
