"""Decide what may come off a queue: signed by us, and a function that may run here."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from json import loads
from typing import Any

from .exceptions import BadSignature, ConfigurationError, NotAllowed, PayloadError
from .tasks import HOOKS, Task

SCHEME = "hmac-sha256:"


class Guard:
    """The rules of one gator.

    *secrets* sign each payload together with its queue and id (HMAC-SHA256), so that whoever can
    write to the store cannot make a worker run something. The first signs; any is accepted, so that
    a secret can be replaced: put the new one first, and take the old one away once the queue has
    been worked off. *allow* are patterns of functions, such as ``myapp.*``.
    """

    def __init__(self, secrets: Sequence[str] = (), allow: Sequence[str] = ()) -> None:
        if not all(secrets):
            raise ConfigurationError("A secret is empty: anybody could sign with it.")
        self._secrets = [secret.encode() for secret in secrets]
        self._allow = tuple(allow)

    def seal(self, queue_name: str, task_id: str, data: str) -> str:
        """Sign *data* for its queue, if there is a secret to sign with."""
        if not self._secrets:
            return data
        return f"{SCHEME}{_sign(self._secrets[0], queue_name, task_id, data)} {data}"

    def open(self, queue_name: str, task_id: str, sealed: str) -> str:
        """Return the data that was sealed; raise `BadSignature` when it was not sealed by us."""
        if not self._secrets:
            return sealed.partition(" ")[2] if sealed.startswith(SCHEME) else sealed
        from hmac import compare_digest  # OpenSSL: who signs nothing does not pay for it

        mark, _, data = sealed.partition(" ")
        signature = _bytes(mark.removeprefix(SCHEME))
        for secret in self._secrets:
            if compare_digest(_sign(secret, queue_name, task_id, data).encode(), signature):
                return data
        raise BadSignature("it is not signed with any of this worker's secrets")

    def read(self, queue_name: str, task_id: str, sealed: str, task_class: type[Task]) -> Task:
        """Turn what lies on a queue into a task; raise `PayloadError` when it may not run here."""
        data = self.open(queue_name, task_id, sealed)
        if not self._allow:
            return task_class.deserialize(data)
        # Before anything is imported, for an import runs code; and once more on what was found,
        # for a name may lead to a function that belongs to somebody else.
        for name in _names(data):
            self._check(name)
        task = task_class.deserialize(data)
        for func in (task.func, task.on_start, task.on_success, task.on_error):
            if func is not None:
                self._check(_own_name(func))
        return task

    def _check(self, name: str) -> None:
        if not any(fnmatchcase(name, pattern) for pattern in self._allow):
            raise NotAllowed(f"{name} is not among the functions allowed here: {self._allow}")


def _sign(secret: bytes, queue_name: str, task_id: str, data: str) -> str:
    from hmac import digest  # OpenSSL: who signs nothing does not pay for it

    # Each part with its length, so that no two triples are the same text.
    text = "".join(f"{len(part)}:{part}" for part in (queue_name, task_id, data))
    return digest(secret, _bytes(text), "sha256").hex()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # whatever lies on a queue, it is no crash


def _names(data: str) -> list[str]:
    try:
        fields = loads(data)
        options = fields.get("options") or {}
        functions = [fields, *(options[hook] for hook in HOOKS if options.get(hook))]
        return [f"{function['module']}.{function['callable']}" for function in functions]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise PayloadError(f"this is not a task: {error}") from error


def _own_name(func: Callable[..., Any]) -> str:
    return f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', '')}"
