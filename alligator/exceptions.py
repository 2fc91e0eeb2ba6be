"""The exceptions of Alligator.

AlligatorException
├── ConfigurationError         invalid settings
│   ├── UnknownBackend         no backend has the scheme of the DSN
│   └── MissingExtra           the library of the backend is not installed
├── TaskError                  the call cannot become a task
│   ├── MultipleDelayError     both delay_by and delay_until were given
│   ├── UnknownOption          tasks have no option of that name
│   ├── InvalidOption          the option does not accept the value
│   ├── NotImportable          a worker could not import the function
│   ├── WrongArguments         the function cannot be called with these arguments
│   ├── NotSerializable        an argument would not arrive as it was passed
│   ├── TaskTooLarge           the task exceeds the size limit
│   └── TooManyTasks           the transaction exceeds its limits
├── PayloadError               a payload is not a task that may run here
│   ├── UnknownModuleError     its module cannot be imported
│   ├── UnknownCallableError   its module has no such function
│   ├── IncompatibleArguments  its function does not take its arguments any more
│   ├── NotAllowed             this worker may not run its function
│   └── BadSignature           no secret of this worker matches its signature
├── NotRunnable                this worker could not start the task; the task has not failed
├── TaskExpired                the task had not begun when it expired
├── TaskFailed                 an attempt at a task failed
│   ├── TaskTimeout            it took longer than its timeout
│   └── TaskCrashed            its process died
├── BackendError               the store could not complete the call
│   └── BackendUnavailable     the store cannot be reached, or did not answer in time
└── ResponseReplaced           a different response was sent instead of the application's
"""


class AlligatorException(Exception):
    """Base class of all Alligator exceptions."""


class ConfigurationError(AlligatorException, ValueError):
    """Invalid settings."""


class UnknownBackend(ConfigurationError):
    """No backend has the scheme of the DSN."""


class MissingExtra(ConfigurationError, ImportError):
    """The library of the backend is not installed."""


class TaskError(AlligatorException):
    """The call cannot become a task."""


class MultipleDelayError(TaskError, ValueError):
    """Both *delay_by* and *delay_until* were given."""


class UnknownOption(TaskError, TypeError):
    """Tasks have no option of that name."""


class InvalidOption(TaskError, ValueError):
    """The option does not accept the value."""


class NotImportable(TaskError, TypeError):
    """A worker could not import the function."""


class WrongArguments(TaskError, TypeError):
    """The function cannot be called with these arguments."""


class NotSerializable(TaskError, TypeError):
    """An argument would not arrive as it was passed."""


class TaskTooLarge(TaskError, ValueError):
    """The task exceeds the size limit."""


class TooManyTasks(TaskError, OverflowError):
    """The transaction exceeds its limits."""


class PayloadError(AlligatorException):
    """A payload is not a task that may run here."""


class UnknownModuleError(PayloadError):
    """The task's module cannot be imported."""


class UnknownCallableError(PayloadError):
    """The task's module has no such function."""


class IncompatibleArguments(PayloadError):
    """The task's function, as it is here, does not take the arguments of the payload."""


class NotAllowed(PayloadError):
    """This worker may not run the task's function."""


class BadSignature(PayloadError):
    """No secret of this worker matches the task's signature."""


class NotRunnable(AlligatorException):
    """This worker could not start the task, for lack of a thread for instance. The task did not fail."""


class TaskExpired(AlligatorException):
    """The task had not begun when it expired. It did not run."""


class TaskFailed(AlligatorException):
    """An attempt at a task failed."""


class TaskTimeout(TaskFailed, TimeoutError):
    """The attempt took longer than the task's timeout."""

    def __str__(self) -> str:
        # Without arguments if it was raised in a running thread, where only the class is given.
        return super().__str__() or "the task took longer than its timeout"


class TaskCrashed(TaskFailed):
    """The process that the task ran in died."""


class BackendError(AlligatorException):
    """The store could not complete the call."""

    retry_after: float = 5.0
    """The number of seconds after which a retry may succeed."""


class BackendUnavailable(BackendError):
    """The store cannot be reached, or did not answer in time."""

    is_local: bool = False
    """Whether this process is the cause, so that the store may well be available."""


class ResponseReplaced(AlligatorException, OSError):
    """The response of this ASGI application is not sent; the client got another one.

    Raised by the application's ``send``, as a server does when the client has disconnected.
    `AlligatorMiddleware` catches it.
    """
