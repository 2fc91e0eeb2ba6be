"""Everything that Alligator raises.

AlligatorException
├── ConfigurationError         something was set up in a way that cannot work
│   ├── UnknownBackend         no backend goes by the scheme of the DSN
│   └── MissingExtra           the backend is known, its library is not installed
├── TaskError                  this call cannot become a task
│   ├── MultipleDelayError     both delay_by and delay_until were given
│   ├── UnknownOption          no task takes an option of that name
│   ├── InvalidOption          the option is known, its value is not one it takes
│   ├── NotImportable          no worker could import the function
│   ├── NotSerializable        an argument is not JSON
│   ├── TaskTooLarge           the task is longer than the queue takes
│   └── TooManyTasks           the transaction holds all it can
├── PayloadError               what lies on the queue is not a task that may run here
│   ├── UnknownModuleError     its module cannot be imported
│   ├── UnknownCallableError   its module has no such function
│   ├── NotAllowed             its function is not one that this worker may run
│   └── BadSignature           it was not signed with a secret of ours
├── TaskFailed                 an attempt at a task failed
│   ├── TaskTimeout            it took longer than its timeout
│   └── TaskCrashed            the process that it ran in has died
└── BackendError               the store could not do what it was asked
    └── BackendUnavailable     the store cannot be reached, or did not answer in time
"""


class AlligatorException(Exception):
    """Be the root of all that Alligator raises."""


class ConfigurationError(AlligatorException, ValueError):
    """Something was set up in a way that cannot work."""


class UnknownBackend(ConfigurationError):
    """No backend goes by the scheme of the DSN."""


class MissingExtra(ConfigurationError, ImportError):
    """The backend is known, its library is not installed."""


class TaskError(AlligatorException):
    """This call cannot become a task."""


class MultipleDelayError(TaskError, ValueError):
    """Both *delay_by* and *delay_until* were given."""


class UnknownOption(TaskError, TypeError):
    """No task takes an option of that name."""


class InvalidOption(TaskError, ValueError):
    """The option is known, its value is not one it takes."""


class NotImportable(TaskError, TypeError):
    """No worker could import the function."""


class NotSerializable(TaskError, TypeError):
    """An argument is not JSON."""


class TaskTooLarge(TaskError, ValueError):
    """The task is longer than the queue takes."""


class TooManyTasks(TaskError, OverflowError):
    """The transaction holds all it can."""


class PayloadError(AlligatorException):
    """What lies on the queue is not a task that may run here."""


class UnknownModuleError(PayloadError):
    """The task's module cannot be imported."""


class UnknownCallableError(PayloadError):
    """The task's module has no such function."""


class NotAllowed(PayloadError):
    """The task's function is not one that this worker may run."""


class BadSignature(PayloadError):
    """The task was not signed with a secret of ours."""


class TaskFailed(AlligatorException):
    """An attempt at a task failed."""


class TaskTimeout(TaskFailed, TimeoutError):
    """The attempt took longer than the task's timeout."""

    def __str__(self) -> str:
        # Sent to a running thread it is a class, and has no arguments.
        return super().__str__() or "it took longer than its timeout"


class TaskCrashed(TaskFailed):
    """The process that the task ran in has died of it."""


class BackendError(AlligatorException):
    """The store could not do what it was asked."""

    retry_after: float = 5.0
    """Seconds after which it may be worth to ask again."""


class BackendUnavailable(BackendError):
    """The store cannot be reached, or did not answer in time."""
