"""Records of the journal as lines of JSON, and back.

A line is one object: `v` (version of the kind), `kind`, `ioc`, `boot`, `seq`, `time_s`, and the fields of the
record; fields that have their default are left out. What is of a newer version or an unknown kind becomes an
`UnknownRecord` that encodes to the very same line. A value carries its type, `{"float": 1.0}`, so that 1 and
1.0 stay apart; a float that is no number is a string, because JSON has none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any

from attpc_ioc.model.events import Stamp

from .model import Value
from .records import (
    ConfigsRecord,
    EditRecord,
    ExperimentRecord,
    FilesRecord,
    LogRecord,
    MeasurementRecord,
    OperationRecord,
    PutRecord,
    Record,
    RunRecord,
    StateRecord,
    UnknownRecord,
)

VERSION = 1
"""The version of every kind of record; one that old programs would misread gets a higher one."""

KINDS: dict[str, type[Any]] = {
    record.KIND: record
    for record in (
        RunRecord,
        EditRecord,
        ExperimentRecord,
        PutRecord,
        StateRecord,
        OperationRecord,
        LogRecord,
        MeasurementRecord,
        FilesRecord,
        ConfigsRecord,
    )
}

_HEAD = ("v", "kind", "ioc", "boot", "seq", "time_s")
_INT_MAX = 2**63 - 1

_ToJson = Callable[[Any], Any]
_FromJson = Callable[[Any], Any]


def encode(record: Record) -> str:
    """Return a record as one line of ASCII, without its line end."""
    if isinstance(record, UnknownRecord):
        return record.body
    stamp = record.stamp
    line: dict[str, Any] = {
        "v": VERSION,
        "kind": record.KIND,
        "ioc": stamp.ioc,
        "boot": stamp.boot,
        "seq": stamp.seq,
        "time_s": _float_to_json(record.time_s),
    }
    line.update(_codec(type(record))[0](record))
    return json.dumps(line, separators=(",", ":"), allow_nan=False)


def decode(line: str | bytes) -> Record:
    """Read a line that `encode` wrote; `ValueError` for everything else."""
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        body = json.loads(text)
    except RecursionError as error:
        raise ValueError("no record: nested too deeply") from error
    if not isinstance(body, dict):
        raise _wrong("no record: not a JSON object")
    version, kind = _int(body.pop("v", None)), _str(body.pop("kind", None))
    stamp = Stamp(_str(body.pop("ioc", None)), _str(body.pop("boot", None)), _int(body.pop("seq", None)))
    time_s = _float(body.pop("time_s", None))
    known = KINDS.get(kind)
    if version < 1 or stamp.seq < 0 or not stamp.boot:
        raise ValueError("no record: version, boot or sequence number is impossible")
    if known is None or version > VERSION:
        # A raw line end can only stand between the parts of a JSON text, never inside one.
        return UnknownRecord(stamp, time_s, kind, version, text.replace("\n", " ").replace("\r", " "))
    return _codec(known)[1]({**body, "stamp": stamp, "time_s": time_s})


@cache
def _codec(kind: type[Any]) -> tuple[_ToJson, _FromJson]:
    """Return how a dataclass becomes a JSON object and back."""
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)
    record = kind in KINDS.values()
    parts = {
        field.name: _part(hints[field.name])
        for field in fields
        if not (record and field.name in ("stamp", "time_s"))
    }
    needed = frozenset(
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    )
    defaults = {field.name: field.default for field in fields}

    def to_json(value: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, (write, _) in parts.items():
            part = getattr(value, name)
            default = defaults[name]
            # Only the very same type may be left out: 0 equals False and 0.0.
            if type(part) is not type(default) or part != default:
                made[name] = write(part)
        return made

    def from_json(raw: Any) -> Any:
        if not isinstance(raw, dict):
            raise _wrong(f"{kind.__name__}: not an object")
        missing = needed - raw.keys()
        if missing:
            raise ValueError(f"{kind.__name__}: {', '.join(sorted(missing))} is missing")
        arguments: dict[str, Any] = {}
        for name, part in raw.items():
            if name in parts:
                arguments[name] = parts[name][1](part)
            elif record and name in ("stamp", "time_s"):
                arguments[name] = part
            else:
                raise ValueError(f"{kind.__name__} has no {name[:40]!r}")
        return kind(**arguments)

    return to_json, from_json


def _part(hint: Any) -> tuple[_ToJson, _FromJson]:
    """Return how a value of this type is written and read."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        write, read = _part(typing.get_args(hint)[0])
        return (lambda value: [write(v) for v in value]), (lambda raw: tuple(read(v) for v in _list(raw)))
    if origin is types.UnionType or origin is typing.Union:
        return _union(tuple(typing.get_args(hint)))
    if hint in _PLAIN:
        return _PLAIN[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return (lambda value: value.value), (lambda raw: _enum(hint, raw))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _codec(hint)
    raise TypeError(f"a record cannot hold {hint}")


def _union(members: tuple[Any, ...]) -> tuple[_ToJson, _FromJson]:
    """Return the codec of an optional type or of a measured value."""
    rest = tuple(member for member in members if member is not types.NoneType)
    write, read = (_value_to_json, _value) if set(rest) == set(typing.get_args(Value)) else _part(rest[0])
    if len(rest) == len(members):
        return write, read
    return (
        lambda value: None if value is None else write(value),
        lambda raw: None if raw is None else read(raw),
    )


def _enum(kind: type[Enum], raw: Any) -> Enum:
    if type(raw) not in (int, str):
        raise ValueError(f"{kind.__name__}: neither a word nor a number")
    return kind(raw)


def _wrong(text: str) -> ValueError:
    """Return the one exception of `decode`: a line of a wrong type is bad data as any other."""
    return ValueError(text)


def _list(raw: Any) -> list[Any]:
    if not isinstance(raw, list):
        raise _wrong("not a list")
    return raw


def _str(raw: Any) -> str:
    if not isinstance(raw, str):
        raise _wrong("not a text")
    return raw


def _bool(raw: Any) -> bool:
    if not isinstance(raw, bool):
        raise _wrong("neither true nor false")
    return raw


def _int(raw: Any) -> int:
    if type(raw) is not int or abs(raw) > _INT_MAX:
        raise ValueError("not an integer of 64 bits")
    return raw


def _float(raw: Any) -> float:
    if isinstance(raw, str) and raw in ("nan", "inf", "-inf"):
        return float(raw)
    if type(raw) is float:
        return raw
    if type(raw) is not int or abs(raw) > 2**1000:
        raise ValueError("not a number")
    return float(raw)


def _float_to_json(value: float) -> float | str:
    return float(value) if math.isfinite(value) else str(float(value))


def _value_to_json(value: Value) -> dict[str, Any]:
    if isinstance(value, str):
        return {"string": value}
    if isinstance(value, float):
        return {"float": _float_to_json(value)}
    return {"integer": int(value)}


def _value(raw: Any) -> Value:
    if not isinstance(raw, dict) or len(raw) != 1:
        raise ValueError("not a value with its type")
    ((kind, value),) = raw.items()
    if kind not in _VALUES:
        raise ValueError("not a value with its type")
    return _VALUES[kind](value)


_VALUES: dict[str, Callable[[Any], Value]] = {"integer": _int, "float": _float, "string": _str}

_PLAIN: dict[Any, tuple[_ToJson, _FromJson]] = {
    str: (str, _str),
    bool: (bool, _bool),
    int: (int, _int),
    float: (_float_to_json, _float),
}
