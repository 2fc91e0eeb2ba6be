"""A lifespan is a function, which each worker process calls."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest

from alligator.exceptions import ConfigurationError
from alligator.execution.lifespan import check_lifespan


def test_function_is_accepted() -> None:
    assert check_lifespan(nullcontext) is nullcontext
    assert check_lifespan(None) is None


def test_context_manager_itself_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="Pass the function itself"):
        check_lifespan(nullcontext())  # type: ignore[arg-type]


@asynccontextmanager
async def lifespan_of_an_app(app: object) -> AsyncIterator[None]:
    yield


def test_function_that_needs_arguments_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"'app'.*lambda: lifespan\(app\)"):
        check_lifespan(lifespan_of_an_app)  # type: ignore[arg-type]

    assert check_lifespan(lambda: lifespan_of_an_app("shop"))
