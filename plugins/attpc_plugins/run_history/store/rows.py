"""Converts rows of the database to dataclasses and back.

Except for a few, a column has the name of its field. `Who` has three columns, a measured value one for each
type. So a new field of a class needs only its column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from attpc_ioc.model.command import Who
from attpc_ioc.model.run import RunClass
from attpc_plugins.run_history.store.connections import TEXTS_MAX, clean
from attpc_plugins.run_history.store.model.history import Run
from attpc_plugins.run_history.store.model.values import Value, class_of, kind_of

E = TypeVar("E", bound=Enum)
T = TypeVar("T")

CONTENT_MAX = 1 << 26
"""The most characters of a stored file or list of files; files have some 100 kB."""

TEXT_MAX = {"title": 1000, "operator": 1000, "manifest": CONTENT_MAX}
"""The most characters of the texts that have limits of their own."""

COLUMNS = {"stage": "state", "old": "old_value", "new": "new_value"}
"""Columns whose name differs from their field's."""

WHO = ("user", "host", "address")
VALUE = ("kind", "integer_value", "float_value", "string_value")


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a dataclass: its columns, how to read its value from a row, and how to write it.

    None in the dataclass is NULL in a single column.
    """

    name: str
    columns: tuple[str, ...]
    read: Callable[[Any], Any]
    write: Callable[[Any], Any] | None = None
    """None: the column gets the value itself. For several columns it returns a tuple."""


def made_of(kind: type[T], row: Any, **given: Any) -> T:
    """Return the dataclass of a row; `given` fields need no column."""
    if not given:
        return kind(*[f.read(row) for f in _fields(kind)])
    return kind(**{f.name: f.read(row) for f in _fields(kind) if f.name not in given}, **given)


def values_of(value: Any, *but: str) -> dict[str, Any]:
    """Return the values of a dataclass by column, without the fields `but`."""
    made: dict[str, Any] = {}
    for f in _fields(type(value)):
        if f.name in but:
            continue
        part = getattr(value, f.name)
        if f.write is not None and f.columns[1:]:
            made.update(zip(f.columns, f.write(part), strict=True))
        else:
            (column,) = f.columns
            made[column] = part if f.write is None or part is None else f.write(part)
    return made


def value_of(row: Any) -> Value | None:
    """Return the value of a row with `kind` and the three value columns; None if it has none."""
    kind = row["kind"]
    return None if kind is None else row[f"{kind}_value"]


def insert(table: str, columns: Iterable[str], tail: str = "") -> str:
    """Return the statement that adds a row of these columns, with values in this order."""
    names = tuple(columns)
    places = ", ".join(f"${n}" for n, _ in enumerate(names, 1))
    return f"INSERT INTO attpc.{table} ({', '.join(names)}) VALUES ({places}) {tail}"


def excluded(columns: Iterable[str]) -> str:
    """Return the assignments of an upsert that overwrite these columns."""
    return ", ".join(f"{name} = excluded.{name}" for name in columns)


async def write_rows(connection: Any, table: str, rows: list[dict[str, Any]], tail: str = "") -> None:
    """Add rows with the same columns."""
    if rows:
        await connection.executemany(insert(table, rows[0], tail), [tuple(row.values()) for row in rows])


async def write_newest(
    connection: Any, table: str, key: tuple[str, ...], rows: list[dict[str, Any]], at: str
) -> None:
    """Add rows; each replaces the one with the same key unless that has a later `at`."""
    if rows:
        assigned = excluded(name for name in rows[0] if name not in key)
        tail = f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {assigned} WHERE t.{at} <= excluded.{at}"
        await write_rows(connection, f"{table} AS t", rows, tail)


@cache
def _fields(kind: type[Any]) -> tuple[_Field, ...]:
    return tuple(_field(name, hint) for name, hint in get_type_hints(kind).items())


def _field(name: str, hint: Any) -> _Field:
    column = COLUMNS.get(name, name)
    kinds = (hint,) if get_origin(hint) is tuple else (get_args(hint) or (hint,))
    kinds = tuple(kind for kind in kinds if kind is not NoneType)
    if kinds == get_args(Value):
        return _Field(name, VALUE, value_of, _value)
    (kind,) = kinds
    if kind is Who:
        columns = tuple(f"{column}_{part}" for part in WHO)
        return _Field(
            name,
            columns,
            lambda row: Who(*(row[column] for column in columns)),
            lambda who: tuple(clean(getattr(who, part)) for part in WHO),
        )
    as_it_is = itemgetter(column)
    read, write = as_it_is, None
    if get_origin(kind) is tuple:
        read, write = (lambda row: tuple(as_it_is(row))), (lambda texts: list(map(clean, texts)))
    elif kind is RunClass:
        read, write = (lambda row: class_of(as_it_is(row))), attrgetter("label")
    elif issubclass(kind, Enum):
        read, write = (lambda row: _member(kind, as_it_is(row))), attrgetter("value")
    elif kind is str:
        most = TEXT_MAX.get(name, TEXTS_MAX)
        write = lambda text: clean(text, most)  # noqa: E731
    return _Field(name, (column,), read, write)


def _member(kind: type[E], word: str | None) -> E | None:
    return None if word is None else kind(word)


def _value(value: Value | None) -> tuple[Any, ...]:
    kind = None if value is None else kind_of(value).value
    kept = clean(value) if isinstance(value, str) else value
    return (kind, *(kept if column == f"{kind}_value" else None for column in VALUE[1:]))


RUN_VALUES = tuple(c for f in _fields(Run) if f.name != "experiment" for c in f.columns)
RUN_COLUMNS = f"r.id, e.name AS experiment, {', '.join(f'r.{name}' for name in RUN_VALUES)}, r.listed_at"
RUNS_FROM = "attpc.runs r JOIN attpc.experiments e ON e.id = r.experiment_id"
