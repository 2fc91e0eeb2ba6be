"""Types and functions of a project that annotates its tasks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from typing import Any, NamedTuple, NewType, NotRequired, Optional, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1


class Size(StrEnum):
    SMALL = "small"


class Rights(Flag):
    READ = 1
    WRITE = 2


class Pair(Enum):
    ONE = (1, 2)


class Point(NamedTuple):
    x: int
    at: datetime


class Event(TypedDict):
    at: datetime
    number: NotRequired[int]


@dataclass
class Order:
    id: UUID
    tags: set[str] = field(default_factory=set)
    price: Decimal = Decimal("1.00")
    parent: Optional["Order"] = None


@dataclass(frozen=True, slots=True)
class Weight:
    kilos: float


@dataclass
class Mail:
    to: str
    subject: str


@dataclass
class Sms:
    to: str


@dataclass(eq=False)
class Same:
    at: date


@attrs.define
class Visit:
    id: UUID
    day: date


class Stock(msgspec.Struct):
    id: UUID
    number: int = 0


class Customer(pydantic.BaseModel):
    id: UUID
    since: datetime
    color: Color = Color.RED
    friend: Optional["Customer"] = None


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="allow")
    id: UUID
    named: int = pydantic.Field(alias="alias")


class Secret(pydantic.BaseModel):
    token: pydantic.SecretStr


class Ids(pydantic.RootModel[list[UUID]]):
    pass


@pydantic_dataclass
class Checked:
    id: UUID


UserId = NewType("UserId", UUID)

arrived: list[Any] = []


def annotated(annotation: Any) -> Callable[..., None]:
    """Return a function of this module with one parameter, of that annotation."""

    def take(value: Any) -> None:
        arrived.append(value)

    take.__annotations__ = {"value": annotation}
    take.__qualname__ = "take"
    globals()["take"] = take
    return take


def bare(value, other=None):  # type: ignore[no-untyped-def]
    """Take values without an annotation."""
    arrived.append(value)


def book(
    order: UUID,
    at: datetime,
    *days: date,
    every: timedelta = timedelta(days=1),
    **prices: Decimal,
) -> None:
    """Take each kind of parameter."""
    arrived.append((order, at, days, every, prices))


class Shop:
    class Kind(Enum):
        BIG = "big"

    @classmethod
    def open(cls, at: time, kind: "Kind") -> None:
        """Take arguments as a class method, with a name of its class in an annotation."""
        arrived.append((cls, at, kind))

    def __init__(self, id: UUID) -> None:
        arrived.append(id)
