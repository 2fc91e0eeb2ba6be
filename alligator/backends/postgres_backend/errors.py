"""Errors of PostgreSQL as `BackendError`, in words that say what to do."""

from typing import Final

from ...exceptions import BackendError, BackendUnavailable
from .wire import Lost, ServerError, TimedOut

READ_ONLY: Final = "25006"
"""The SQLSTATE of a write to a standby, or to a primary that has become one."""

MISSING: Final = ("3F000", "42P01", "42883")
"""The SQLSTATEs of a missing schema, table or function: somebody has dropped them meanwhile."""

_DEFINITE: Final = ("0A", "22", "23", "25", "28", "3D", "3F", "42")
"""Classes of errors that are raised before a push is committed, so that it is not queued."""

_REPEATABLE: Final = ("40001", "40P01", READ_ONLY, *MISSING)
"""Errors after which the same statement may succeed, on another connection if need be."""

# By SQLSTATE or its class. The temporary ones pass.
_PERMANENT: Final = {
    "42501": "denies its user something that Alligator needs. Grant the rights on the schema, or let "
    "its owner make the tables: see `latergator tables --help`",
    "3F000": "has no such schema, and its user may not make it",
    "53100": "has no space left on its disk. Accepted tasks are safe",
    "22": "does not accept a value",
}
_TEMPORARY: Final = {
    READ_ONLY: "is a standby or read-only, and accepts no writes",
    "53300": "has no connection left: raise max_connections, or run fewer processes",
    "53": "is out of resources",
    "55P03": "is busy: another transaction has locked what this one needs",
    "57014": "took too long, and cancelled the statement",
    "57": "is shutting down or starting",
    "40": "is busy: transactions conflicted again and again",
}

# Parts of libpq's messages about a connection that was not made, in lower case.
_REJECTED: Final = {
    "password authentication failed": "does not accept the user name and password of the DSN",
    "no password supplied": "requires a password: name it in the DSN, in PGPASSWORD or in ~/.pgpass",
    "no pg_hba.conf entry": "does not let this host, user and database in (pg_hba.conf)",
    "does not exist": "has no such database or user",
    "certificate verify failed": "has a certificate that is not trusted here: see sslrootcert",
    "root certificate file": "cannot be checked: sslrootcert names no certificate that can be read",
    "does not support ssl": "does not use TLS, which sslmode requires",
    "definition of service": "is named by a service that the service file does not have",
    "permission denied for database": "does not let this user in",
}
_WAITING: Final = {
    "session is read-only": _TEMPORARY[READ_ONLY],
    "hot standby mode": _TEMPORARY[READ_ONLY],
    "not in hot standby mode": "is a primary, and target_session_attrs asks for a standby",
    "too many clients": _TEMPORARY["53300"],
    "remaining connection slots": _TEMPORARY["53300"],
    "too many connections": _TEMPORARY["53300"],
    "starting up": "is starting",
    "shutting down": "is shutting down",
    "recovery mode": "is recovering from a crash",
}


def is_definite(error: ServerError) -> bool:
    """Return whether the push that failed with *error* cannot have been committed."""
    return error.code[:2] in _DEFINITE


def is_repeatable(error: ServerError) -> bool:
    """Return whether the same statement may succeed when it is repeated at once."""
    return error.code in _REPEATABLE


def explain(error: Lost | ServerError, store: str) -> BackendError:
    """Return *error* of *store* as an error that says what to do; it never shows the password."""
    if isinstance(error, TimedOut):
        return BackendUnavailable(f"{store} did not answer in time")
    detail = f" ({error})" if str(error) else ""
    if isinstance(error, Lost):
        text = str(error).lower()
        for words, message in _WAITING.items():
            if words in text:
                return BackendUnavailable(f"{store} {message}{detail}")
        for words, message in _REJECTED.items():
            if words in text:
                return BackendError(f"{store} {message}{detail}")
        return BackendUnavailable(f"{store} cannot be reached{detail}")
    for code in (error.code, error.code[:2]):
        if code in _PERMANENT:
            return BackendError(f"{store} {_PERMANENT[code]}{detail}")
        if code in _TEMPORARY:
            return BackendUnavailable(f"{store} {_TEMPORARY[code]}{detail}")
    return BackendError(f"{store}: {error} (SQLSTATE {error.code})")
