"""The exceptions and their tree."""

from alligator import exceptions


def test_every_exception_is_in_the_tree() -> None:
    names = [name for name, kind in vars(exceptions).items() if isinstance(kind, type)]

    assert [name for name in names if name not in (exceptions.__doc__ or "")] == []


def test_every_exception_is_an_alligator_exception() -> None:
    kinds = [kind for kind in vars(exceptions).values() if isinstance(kind, type)]

    assert [kind for kind in kinds if not issubclass(kind, exceptions.AlligatorException)] == []
