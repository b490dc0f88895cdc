"""Writes values as text and as JSON, for files and the event log, and reads them without loss.

A time is ISO 8601 with offset. A measured value carries its type, `{"float": 1.0}`, so that 1, 1.0 and "1"
differ; an infinite float or NaN is a text in it, because JSON has neither. Fields of the store's
classes annotated with `Time`, `ClassLabel` or `TypedValue` have this form of JSON in pydantic.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, PlainSerializer, PlainValidator

from attpc_ioc.model.run import RunClass

E = TypeVar("E", bound=Enum)

INT_MAX = 2**63 - 1

Value = int | float | str
"""A measured value. An integer has 64 bits; a float may be infinite or not a number."""

_CLASSES = {run_class.label: run_class for run_class in RunClass}


class ValueKind(StrEnum):
    """The type of an observable or of a measured value."""

    INTEGER = "integer"
    FLOAT = "float"
    STRING = "string"


class Bad(ValueError):
    """An invalid value; `column` names it. The text says what is valid."""

    def __init__(self, text: str, column: str = "") -> None:
        self.column = column
        super().__init__(text)


def shown(value: object) -> str:
    """Return a value for a message, cut to what a line can hold."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def kind_of(value: Value) -> ValueKind:
    """Return the kind of a value."""
    if isinstance(value, str):
        return ValueKind.STRING
    return ValueKind.FLOAT if isinstance(value, float) else ValueKind.INTEGER


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


def class_of(text: str) -> RunClass:
    """Return the run class of a label, upper or lower case; raises `Bad`."""
    if (found := _CLASSES.get(text.strip().capitalize())) is not None:
        return found
    raise Bad(f"{shown(text)} is not a class; they are {', '.join(_CLASSES)}")


def word_of(kind: type[E], text: str) -> E:
    """Return the member of an enumeration of words; raises `Bad` listing them."""
    for member in kind:
        if text.strip().lower() == str(member.value).lower():
            return member
    raise Bad(f"{shown(text)} is not one of {', '.join(str(member.value) for member in kind)}")


def value_out(value: Value) -> dict[str, Any]:
    """Return a measured value with its type."""
    kind = kind_of(value)
    finite = not isinstance(value, float) or math.isfinite(value)
    return {kind.value: value if finite else str(value)}


def value_in(raw: Any) -> Value:
    """Return the measured value that `value_out` wrote; raises `Bad`."""
    if isinstance(raw, dict) and len(raw) == 1:
        ((kind, value),) = raw.items()
        whole = type(value) is int and abs(value) <= INT_MAX
        if (kind == "string" and isinstance(value, str)) or (kind == "integer" and whole):
            return value
        if kind == "float" and (whole or type(value) is float or value in ("nan", "inf", "-inf")):
            return float(value)
    raise Bad(f'{shown(raw)} is not a value with its type, such as {{"float": 1.5}}')


Time = Annotated[
    datetime,
    BeforeValidator(lambda raw: time_of(raw) if isinstance(raw, str) else raw),
    PlainSerializer(time_text, when_used="json"),
]
ClassLabel = Annotated[
    RunClass,
    BeforeValidator(lambda raw: class_of(raw) if isinstance(raw, str) else raw),
    PlainSerializer(lambda run_class: run_class.label, when_used="json"),
]
TypedValue = Annotated[Value, PlainValidator(value_in), PlainSerializer(value_out, when_used="json")]
