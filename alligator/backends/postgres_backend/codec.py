"""The binary format of PostgreSQL, for the types that the statements use."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from struct import Struct, calcsize
from typing import Any, Final, TypeAlias

Value: TypeAlias = Any
"""What a parameter or a column holds: str, bytes, int, float, bool, None, or a list of one of them."""

_BOOL, _INT, _LONG, _FLOAT = map(Struct, (">?", ">i", ">q", ">d"))
_HEADER = Struct(">iiiii")
"""Of an array: dimensions, whether there are nulls, type of the elements, length, first index."""
_NULL = b"\xff\xff\xff\xff"

BEGINNING: Final = -(2**63)
"""``-infinity`` as a ``timestamptz``; others are the microseconds since the year 2000."""

_Encode: TypeAlias = Callable[[Any], bytes]
_Decode: TypeAlias = Callable[[bytes], Any]


def _decode_text(data: bytes) -> str:
    return data.decode()


_SCALARS: Final[Mapping[str, tuple[int, int, str, _Encode, _Decode]]] = {
    "bool": (16, 1000, "?", _BOOL.pack, lambda data: data != b"\x00"),
    "bytea": (17, 1001, "", bytes, bytes),
    "int8": (20, 1016, "q", _LONG.pack, lambda data: _LONG.unpack(data)[0]),
    "int4": (23, 1007, "i", _INT.pack, lambda data: _INT.unpack(data)[0]),
    "text": (25, 1009, "", str.encode, _decode_text),
    "float8": (701, 1022, "d", _FLOAT.pack, lambda data: _FLOAT.unpack(data)[0]),
    "timestamptz": (1184, 1185, "q", _LONG.pack, lambda data: _LONG.unpack(data)[0]),
}
"""By name: the oid, the oid of the array, the code of `struct` if all values have one length, and how a
value is written and read."""


def _array_encoder(oid: int, encode: _Encode, code: str) -> _Encode:
    """Return what writes arrays; *code* is that of `struct` for elements of one length, or empty."""
    size = calcsize(f">{code}")

    @lru_cache(maxsize=64)
    def layout(number: int) -> Struct:
        return Struct(f">5i{f'i{code}' * number}")

    def encode_array(values: Sequence[Value]) -> bytes:
        number = len(values)
        if not number:
            return _HEADER.pack(0, 0, oid, 0, 0)[:12]
        if code and None not in values:
            items = [size] * (2 * number)
            items[1::2] = values
            return layout(number).pack(1, 1, oid, number, 1, *items)
        elements = [None if value is None else encode(value) for value in values]
        parts = [_NULL if each is None else _INT.pack(len(each)) + each for each in elements]
        return _HEADER.pack(1, 1, oid, number, 1) + b"".join(parts)

    return encode_array


def _array_decoder(decode: _Decode) -> _Decode:
    def decode_array(data: bytes) -> list[Value]:
        (dimensions,) = _INT.unpack_from(data)
        if not dimensions:
            return []
        (number,) = _INT.unpack_from(data, 12)
        values: list[Value] = []
        position = 20
        for _ in range(number):
            (length,) = _INT.unpack_from(data, position)
            position += 4
            if length < 0:
                values.append(None)
            else:
                values.append(decode(data[position : position + length]))
                position += length
        return values

    return decode_array


ENCODERS: Final[Mapping[str, tuple[int, _Encode]]] = {
    **{name: (oid, encode) for name, (oid, _, _, encode, _) in _SCALARS.items()},
    **{
        f"{name}[]": (array, _array_encoder(oid, encode, code))
        for name, (oid, array, code, encode, _) in _SCALARS.items()
    },
}
"""By the name of a type: its oid, and how a value is written."""

DECODERS: Final[Mapping[int, _Decode]] = {
    **{oid: decode for oid, *_, decode in _SCALARS.values()},
    **{array: _array_decoder(decode) for _, array, *_, decode in _SCALARS.values()},
}
"""By the oid of a type: how a value is read."""
