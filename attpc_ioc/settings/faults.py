"""Faults of the settings, and their conversion from pydantic's errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Loc = tuple[str | int, ...]
"""The place of a value: keys of tables and indexes of lists."""

TOGETHER = "settings_together"
"""The type of pydantic's error for a fault of several values together; its context has the `text`."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its place, and what would be right ("must be ...")."""

    loc: Loc
    text: str

    @property
    def key(self) -> str:
        """The key in TOML's terms, such as `ecc[2].source[0].link[0].port`; indexes count from 0."""
        key = ""
        for part in self.loc:
            if isinstance(part, int):
                key += f"[{part}]"
            else:
                word = part if _BARE_KEY.fullmatch(part) else repr(part[:60])
                key += f".{word}" if key else word
        return key

    def __str__(self) -> str:
        return f"{self.key} {self.text}"

    def line(self, data: Any) -> str:
        """Return the fault as a line of a message, with the ECC server's name if `data` has it."""
        server = ""
        if len(self.loc) > 1 and self.loc[0] == "ecc" and isinstance(data, Mapping):
            try:
                name = data["ecc"][self.loc[1]]["name"]
            except (KeyError, IndexError, TypeError):
                name = None
            if name and isinstance(name, str):
                server = f" (ECC server {name!r:.60})"
        return f"{self.key}{server} {self.text}"


class Seen:
    """Finds duplicates: values seen so far, with the key where each was seen first."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: dict[Any, tuple[Loc, str]] = {}

    def fault(self, loc: Loc, value: Any, shown: str) -> Iterator[Fault]:
        """Yield a fault when `value` was seen before."""
        if value not in self._first:
            self._first[value] = (loc, shown)
            return
        first, first_shown = self._first[value]
        but = "" if first_shown == shown else f" {first_shown!r} but for upper and lower case"
        yield Fault(
            loc,
            f"must be another {self._what} than {shown!r}: that is{but} at {Fault(first, '').key} already",
        )


def pydantic_faults(model: type[BaseModel], error: ValidationError) -> list[Fault]:
    """Return pydantic's errors about a `model` as faults."""
    return [
        Fault(tuple(one["loc"]), _TEXTS.get(one["type"], _other)(model, tuple(one["loc"]), one))
        for one in error.errors(include_url=False)
        # If a list has entries, the fault of each entry is shown instead.
        if not (one["type"] == "too_short" and one["input"])
    ]


def _section_at(model: type[BaseModel], loc: Loc) -> type[BaseModel] | None:
    """Return the model of the table at `loc`."""
    section: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int):
            continue
        if section is None or part not in section.model_fields:
            return None
        section = model_in(section.model_fields[part].annotation)
    return section


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model of the table that a key holds, or holds a list of; None for any other key."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := model_in(arg))), None)


def _unknown(model: type[BaseModel], loc: Loc, _error: Mapping[str, Any]) -> str:
    section, key = _section_at(model, loc[:-1]), str(loc[-1])
    if section is None:
        return "is not a known key"
    known = list(section.model_fields)
    low = key.lower()
    begins = [name for name in known if low.startswith(name) or (len(low) > 1 and name.startswith(low))]
    near = begins[:1] or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near := near or [name for name in known if name.endswith(f"_{low}")]:
        return f"is not a known key; did you mean {' or '.join(map(repr, near))}?"
    for name, field in model.model_fields.items():
        other = model_in(field.annotation)
        if other is not None and other is not section and key in other.model_fields:
            return f"is not a known key here; {name}.{key} is one"
    return f"is not a known key; known here: {', '.join(known)}"


def _missing(model: type[BaseModel], loc: Loc, _error: Mapping[str, Any]) -> str:
    section, key = _section_at(model, loc[:-1]), str(loc[-1])
    about = section.model_fields[key].description if section and key in section.model_fields else ""
    if loc == ("ecc",):
        return "is missing: at least one table [[ecc]] with name and host is needed"
    return f"is missing: {about}" if about else "is missing"


def _list(_model: type[BaseModel], loc: Loc, error: Mapping[str, Any]) -> str:
    keys = [str(part) for part in loc if isinstance(part, str)]
    if keys[-1] in ("ecc", "source", "link"):
        return f"must be a list of tables: write [[{'.'.join(keys)}]], not {shown(error['input'])}"
    return f"must be a list in square brackets, not {shown(error['input'])}"


def _table(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return f"must be a table, not {shown(error['input'])}"


def _empty(_model: type[BaseModel], _loc: Loc, _error: Mapping[str, Any]) -> str:
    return "must have at least one entry"


def _together(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return str(error["ctx"]["text"])


def _value(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return str(error["ctx"]["error"])


def _text(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return f"must be a text in quotes, not {shown(error['input'])}"


def _whole(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return f"must be a whole number, not {shown(error['input'])}"


def _number(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return f"must be a finite number, not {shown(error['input'])}"


def _bool(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    return f"must be true or false, not {shown(error['input'])}"


def _range(model: type[BaseModel], loc: Loc, error: Mapping[str, Any]) -> str:
    low, high = _bounds(model, loc)
    return (
        f"must be {low} to {high}, not {shown(error['input'])}" if low and high else _other(model, loc, error)
    )


def _bounds(model: type[BaseModel], loc: Loc) -> tuple[str, str]:
    """Return the smallest and the largest value of the number at `loc` as texts; empty without a limit."""
    section = _section_at(model, loc[:-1])
    field = section.model_fields.get(str(loc[-1])) if section else None
    low = high = ""
    for item in _metadata(field.annotation, field.metadata) if field else ():
        if (value := getattr(item, "ge", None)) is not None:
            low = f"{value:.12g}"
        elif (value := getattr(item, "gt", None)) is not None and not low:
            low = f"more than {value:.12g} and up"
        if (value := getattr(item, "le", None)) is not None:
            high = f"{value:.12g}"
    return low, high


def _metadata(annotation: Any, metadata: Iterable[Any] = ()) -> Iterator[Any]:
    """Yield all constraints of an annotation, including those inside `X | None`."""
    for item in metadata:
        yield from item.metadata if isinstance(item, FieldInfo) else (item,)
    yield from _metadata_of_args(annotation)


def _metadata_of_args(annotation: Any) -> Iterator[Any]:
    for arg in get_args(annotation):
        yield from _metadata(arg, getattr(arg, "__metadata__", ()))


def _other(_model: type[BaseModel], _loc: Loc, error: Mapping[str, Any]) -> str:
    text = re.sub(r"^(Input|String|Tuple|Value|List|Dictionary) should ", "must ", str(error["msg"]))
    return f"{text}, not {shown(error['input'])}"


def shown(value: Any) -> str:
    """Return a value in TOML, cut to one short line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


_TEXTS = {
    "extra_forbidden": _unknown,
    "missing": _missing,
    "tuple_type": _list,
    "model_type": _table,
    "model_attributes_type": _table,
    "dict_type": _table,
    "too_short": _empty,
    TOGETHER: _together,
    "value_error": _value,
    "string_type": _text,
    "int_type": _whole,
    "float_type": _number,
    "finite_number": _number,
    "bool_type": _bool,
    "greater_than": _range,
    "greater_than_equal": _range,
    "less_than": _range,
    "less_than_equal": _range,
}
