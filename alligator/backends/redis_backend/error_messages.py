"""Errors of Redis as `BackendError`, in words that say what to do."""

from ssl import SSLError

from redis.exceptions import RedisError, ResponseError

from ...exceptions import BackendError, BackendUnavailable

# The message for an error that has one of these words in its name or, if the server sent it, in its
# text. The permanent ones stay until somebody acts, the temporary ones pass.
PERMANENT = {
    "MAXMEMORY": "is out of memory and rejected the write: let workers drain the queues, or raise "
    "maxmemory",
    "AUTHENTICATION": "does not accept the user name and password of the DSN",
    "UNAUTHENTICATED": "requires a password: redis://:password@host",
    "NOPERM": "denies its user a command or a key that Alligator needs (ACL)",
    "USER EXECUTING": "denies its user a command or a key that Alligator needs (ACL)",
    "ACL FAILURE": "denies its user a command or a key that Alligator needs (ACL)",
    "WRONGTYPE": "holds other data under these keys: choose another namespace with ?ns=",
    "UNKNOWN COMMAND": "does not know the commands that Alligator needs. If it is a Sentinel, the DSN "
    "is redis+sentinel://host:26379/master",
    "CERTIFICATE_VERIFY_FAILED": "has a certificate that is not trusted here: see ssl_ca_certs",
    "CERTIFICATE REQUIRED": "requires a client certificate: see ssl_certfile and ssl_keyfile",
    "KEY_VALUES_MISMATCH": "cannot be used, because ssl_keyfile does not belong to ssl_certfile",
    "PEM LIB": "cannot be used, because ssl_keyfile (or ssl_certfile, without it) holds no key",
    "WRONG_VERSION_NUMBER": "does not use TLS: the DSN of such a port begins with redis://",
}
NOT_IN_CLUSTER_MODE = (
    "is a node of a cluster, which keeps this queue on another node: the DSN of a cluster begins with "
    "redis+cluster://"
)
TEMPORARY = {
    "LOADING": "is still loading its data",
    "TIMEOUT": "did not answer in time",
    "CONNECTION": "cannot be reached",
    "READONLY": "is a replica and accepts no writes",
    "BUSY": "is busy with another client's script",
    "MISCONF": "cannot write to its disk",
    "NOREPLICAS": "has too few replicas to accept writes",
    "MASTERDOWN": "has lost its master",
    "CLUSTERDOWN": "has lost a part of its cluster",
    "TRYAGAIN": "is moving the queue to another node",
    "ASKERROR": "is moving the queue to another node",
    "MOVED": "has moved the queue to another node",
    "NON LOCAL KEY": "is moving the queue to another node",
    "UNBLOCKED": "is no longer the master",
}


def explain(error: RedisError, store: str, *, is_cluster: bool) -> BackendError:
    """Return *error* of *store* as an error that says what to do; it never shows the password."""
    words = text_of(error)
    if "MOVED" in words and not is_cluster:
        return BackendError(f"{store} {NOT_IN_CLUSTER_MODE} ({error})")
    for word, message in PERMANENT.items():
        if word in words:
            return BackendError(f"{store} {message} ({error})")
    for word, message in TEMPORARY.items():
        if word in words:
            return BackendUnavailable(f"{store} {message} ({error})")
    return BackendError(f"{store}: {error}")


def text_of(error: RedisError) -> str:
    """Return the text that decides what *error* means, in upper case."""
    sent = error if isinstance(error, ResponseError) else _tls_error(error)
    return f"{type(error).__name__} {sent}".upper()


def _tls_error(error: BaseException) -> str:
    """Return the TLS error that caused *error*; an empty string if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, SSLError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return ""
