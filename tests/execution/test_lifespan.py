"""A lifespan is a function, which each worker process calls."""

from contextlib import nullcontext

import pytest

from alligator.exceptions import ConfigurationError
from alligator.execution.lifespan import check_lifespan


def test_function_is_accepted() -> None:
    assert check_lifespan(nullcontext) is nullcontext
    assert check_lifespan(None) is None


def test_context_manager_itself_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="Pass the function itself"):
        check_lifespan(nullcontext())  # type: ignore[arg-type]
