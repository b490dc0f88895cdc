"""The store's dataclasses as JSON and back, without loss.

An object has the field names of its dataclass; what has its default is left out. A time is ISO 8601 with
offset. A measured value carries its type, `{"float": 1.0}`, so that 1, 1.0 and "1" stay apart; a float that
is no finite number is a text in it, because JSON has none.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from attpc_ioc.model.run import RunClass
from attpc_plugins.run_history.store.model.history import Value, ValueKind, kind_of

from .faults import Bad, shown

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

INT_MAX = 2**63 - 1

_CLASSES = {run_class.label: run_class for run_class in RunClass}


def to_plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as a JSON object."""
    return _object(type(value))[0](value)


def from_plain(kind: type[T], raw: Any) -> T:
    """Return the dataclass that `to_plain` made an object of; raises `Bad` naming the key."""
    return _object(kind)[1](raw)


def time_text(when: datetime) -> str:
    """Return a time as ISO 8601 with offset, in UTC."""
    return when.astimezone(UTC).isoformat()


def time_of(text: str) -> datetime:
    """Return a time with offset in UTC; raises `Bad` for anything else."""
    try:
        when = datetime.fromisoformat(text.strip())
        if when.tzinfo is None:
            raise Bad(f"{shown(text)} has no offset from UTC, such as +00:00")
        return when.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        if isinstance(error, Bad):
            raise
        raise Bad(f"{shown(text)} is not a time; 2026-11-22T14:03:05+01:00 is one") from None


_Write = Callable[[Any], Any]
_Read = Callable[[Any], Any]


@cache
def _object(kind: type[Any]) -> tuple[_Write, _Read]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    parts = {field.name: _part(hints[field.name]) for field in fields}
    defaults = {field.name: field.default for field in fields}
    needed = [field.name for field in fields if field.default is dataclasses.MISSING]

    def write(value: Any) -> dict[str, Any]:
        made = {}
        for name, (write_part, _) in parts.items():
            part = getattr(value, name)
            if type(part) is not type(defaults[name]) or part != defaults[name]:
                made[name] = write_part(part)
        return made

    def read(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise Bad(f"{shown(raw)} is not an object with the fields of {_word(kind)}")
        if missing := [name for name in needed if name not in raw]:
            raise Bad("is missing", missing[0])
        made = {}
        for name, part in raw.items():
            if name not in parts:
                raise Bad(f"{_word(kind)} has no such field", str(name)[:60])
            try:
                made[name] = parts[name][1](part)
            except Bad as bad:
                raise Bad(str(bad), f"{name}.{bad.column}" if bad.column else name) from None
        return kind(**made)

    return write, read


def _word(kind: type[Any]) -> str:
    word = kind.__name__.lower()
    return f"{'an' if word[0] in 'aeio' else 'a'} {word}"


def _part(hint: Any) -> tuple[_Write, _Read]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        write, read = _part(typing.get_args(hint)[0])
        return (lambda items: [write(item) for item in items]), (lambda raw: _tuple(raw, read))
    if origin in (types.UnionType, typing.Union):
        members = set(typing.get_args(hint)) - {types.NoneType}
        write, read = (
            (value_out, value_in) if members == set(typing.get_args(Value)) else _part(members.pop())
        )
        return (
            lambda value: None if value is None else write(value),
            lambda raw: None if raw is None else read(raw),
        )
    if hint is RunClass:
        return (lambda value: value.label), class_of
    if hint in _PLAIN:
        return _PLAIN[hint]
    if issubclass(hint, Enum):
        return (lambda value: value.value), (lambda raw: word_of(hint, raw))
    return _object(hint)


def _tuple(raw: Any, read: _Read) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise Bad(f"{shown(raw)} is not a list")
    made = []
    for index, item in enumerate(raw):
        try:
            made.append(read(item))
        except Bad as bad:
            raise Bad(str(bad), f"{index}.{bad.column}" if bad.column else str(index)) from None
    return tuple(made)


def class_of(raw: Any) -> RunClass:
    """Return the run class of a label, upper or lower case; raises `Bad`."""
    if isinstance(raw, str) and (found := _CLASSES.get(raw.strip().capitalize())) is not None:
        return found
    raise Bad(f"{shown(raw)} is not a class; they are {', '.join(_CLASSES)}")


def word_of(kind: type[E], raw: Any) -> E:
    """Return the member of an enumeration of words; raises `Bad` listing them."""
    if isinstance(raw, str):
        for member in kind:
            if raw.strip().lower() == str(member.value).lower():
                return member
    raise Bad(f"{shown(raw)} is none of {', '.join(str(member.value) for member in kind)}")


def value_out(value: Value) -> dict[str, Any]:
    """Return a measured value with its type."""
    kind = kind_of(value)
    if kind is ValueKind.FLOAT:
        return {"float": _float_out(float(value))}
    return {kind.value: str(value) if kind is ValueKind.STRING else int(value)}


def value_in(raw: Any) -> Value:
    """Return the measured value that `value_out` wrote; raises `Bad`."""
    if isinstance(raw, dict) and len(raw) == 1:
        ((kind, value),) = raw.items()
        readers: dict[str, Callable[[Any], Value]] = {"integer": _int, "float": _float, "string": _str}
        if kind in readers:
            return readers[kind](value)
    raise Bad(f'{shown(raw)} is no value with its type, such as {{"float": 1.5}}')


def _float_out(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


def _str(raw: Any) -> str:
    if not isinstance(raw, str):
        raise Bad(f"{shown(raw)} is not a text")
    return raw


def _bool(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise Bad(f"{shown(raw)} is neither true nor false")
    return raw


def _int(raw: Any) -> int:
    if type(raw) is not int or abs(raw) > INT_MAX:
        raise Bad(f"{shown(raw)} is not an integer of 64 bits")
    return raw


def _float(raw: Any) -> float:
    if isinstance(raw, str) and raw in ("nan", "inf", "-inf"):
        return float(raw)
    if type(raw) is float:
        return raw
    if type(raw) is not int or abs(raw) > INT_MAX:
        raise Bad(f"{shown(raw)} is not a number")
    return float(raw)


def _time(raw: Any) -> datetime:
    return time_of(_str(raw))


_PLAIN: dict[Any, tuple[_Write, _Read]] = {
    str: (str, _str),
    bool: (bool, _bool),
    int: (int, _int),
    float: (_float_out, _float),
    datetime: (time_text, _time),
}
