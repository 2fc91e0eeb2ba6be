"""Sign payloads, verify signatures, and limit which functions may run."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Protocol, Self, TypeVar

from .._runtime.environment import check_list
from ..constants import MAX_TASK_BYTES
from ..exceptions import BadSignature, NotAllowed, TaskTooLarge
from . import envelope
from .batch import batch_in, with_batch_of


class Readable(Protocol):
    """What `Guard.read` needs of a task class."""

    func: Any
    on_start: Any
    on_success: Any
    on_error: Any
    queue_name: str | None
    batch: Any

    @classmethod
    def deserialize(cls, data: str) -> Self:
        """Return the task that *data* describes."""
        ...


class Writable(Protocol):
    """A task that can be written."""

    task_id: str

    @property
    def name(self) -> str: ...

    def serialize(self) -> str: ...


T = TypeVar("T", bound=Readable)


class Guard:
    """Signs and verifies the payloads of one gator, and checks their functions.

    *secrets* sign each payload together with its queue, its id and the *scope* of the store
    (`Client.scope`), with HMAC-SHA256. An attacker who can write to the store, but does not know a
    secret, can neither create nor change a task, nor move one to another queue, id or scope. They can
    repeat a task that they have seen, in the same place. The first secret signs, and all of them are
    accepted. To replace a secret, put the new one first, and remove the old one when the tasks that it
    signed have run. *allow* is a list of patterns of functions, such as ``myapp.*``. *max_bytes* limits
    the size of a payload without its signature.
    """

    def __init__(
        self,
        secrets: str | Sequence[str] | None = None,
        allow: str | Sequence[str] | None = None,
        *,
        scope: str = "",
        max_bytes: int = MAX_TASK_BYTES,
    ) -> None:
        self._secrets = [secret.encode() for secret in check_list("secret", secrets)]
        self._allow = tuple(check_list("allow", allow))
        self._scope = scope
        self._max_bytes = max_bytes

    @property
    def signs(self) -> bool:
        """Whether tasks are signed, and unsigned ones are refused."""
        return bool(self._secrets)

    def write(self, task: Writable, queue_name: str) -> str:
        """Return the payload of *task*; raises a `TaskError` if it has none or is too large."""
        data = task.serialize()
        # JSON is ASCII here, so its length is its size.
        if len(data) > self._max_bytes:
            raise TaskTooLarge(
                f"{task.name} takes {len(data):,} bytes with its arguments; the limit is "
                f"{self._max_bytes:,}. Store large data elsewhere and pass an id."
            )
        return self.seal(queue_name, task.task_id, data) if self._secrets else data

    def note_release(
        self, queue_name: str, task_id: str, sealed: str
    ) -> tuple[str, envelope.Released]:
        """Return the payload of a released task with one more release noted, and that note."""
        data, released = envelope.note_release(self.open(queue_name, task_id, sealed))
        return with_batch_of(sealed, self.seal(queue_name, task_id, data)), released

    def without_expiry(self, queue_name: str, task_id: str, sealed: str) -> str:
        """Return the payload of a task that does not expire any more."""
        data = envelope.without_expiry(self.open(queue_name, task_id, sealed))
        return with_batch_of(sealed, self.seal(queue_name, task_id, data))

    def seal(self, queue_name: str, task_id: str, data: str) -> str:
        """Return *data*, signed for its queue and id if there is a secret."""
        if not self._secrets:
            return data
        return envelope.join(self._sign(self._secrets[0], queue_name, task_id, data), data)

    def open(self, queue_name: str, task_id: str, sealed: str) -> str:
        """Return the data without its signature; raises `BadSignature` if no secret matches it."""
        signature, data = envelope.split(sealed)
        if not self._secrets:
            return data
        from hmac import compare_digest  # loads OpenSSL

        given = _bytes(signature)
        for secret in self._secrets:
            if compare_digest(self._sign(secret, queue_name, task_id, data).encode(), given):
                return data
        raise BadSignature(
            "it is not signed with any of this worker's secrets, for this queue, id and store"
        )

    def read(self, queue_name: str, task_id: str, sealed: str, task_class: type[T]) -> T:
        """Return the task of a payload; raises `PayloadError` if it may not run here."""
        is_bare = sealed.startswith("{")  # no signature, and no batch: the usual case
        data = sealed if is_bare and not self._secrets else self.open(queue_name, task_id, sealed)
        if self._allow:  # before the import, because an import runs code
            for name in envelope.read(data).functions:
                self._check(str(name))
        task = task_class.deserialize(data)
        if self._allow:  # after it, because an allowed name may refer to a function elsewhere
            for func in (task.func, task.on_start, task.on_success, task.on_error):
                if func is not None:
                    self._check(_own_name(func))
        task.queue_name = queue_name
        if not is_bare and (batch := batch_in(sealed)) is not None:
            task.batch = batch
        return task

    def _sign(self, secret: bytes, queue_name: str, task_id: str, data: str) -> str:
        from hmac import digest  # loads OpenSSL

        # Each part with its length, so that different parts never give the same text.
        parts = (self._scope, queue_name, task_id, data)
        text = "".join(f"{len(part)}:{part}" for part in parts)
        return digest(secret, _bytes(text), "sha256").hex()

    def _check(self, name: str) -> None:
        if not any(fnmatchcase(name, pattern) for pattern in self._allow):
            raise NotAllowed(f"{name} is not among the functions allowed here: {self._allow}")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # any text of a store can be encoded


def _own_name(func: Callable[..., Any]) -> str:
    return f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', '')}"
