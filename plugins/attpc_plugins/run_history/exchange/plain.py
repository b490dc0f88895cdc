"""Converts the store's dataclasses to JSON and back, without loss.

An object has the field names of its dataclass; fields with their default are left out. For the form of times,
classes and measured values see `store.model.values`.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from attpc_plugins.run_history.store.model.values import Bad, shown

T = TypeVar("T")

_SAID = {
    "missing": "is missing",
    "dataclass_type": "{} is not an object with fields",
    "tuple_type": "{} is not a list",
    "string_type": "{} is not a text",
    "bool_type": "{} is neither true nor false",
    "int_type": "{} is not an integer",
    "float_type": "{} is not a number",
}
"""The texts of faults, by pydantic's name."""


def to_plain(value: Any) -> dict[str, Any]:
    """Return a dataclass as a JSON object."""
    return _adapter(type(value)).dump_python(value, mode="json", exclude_defaults=True)


def from_plain(kind: type[T], raw: Any) -> T:
    """Return the dataclass of an object of `to_plain`; raises `Bad` naming the key."""
    # Lone surrogates are replaced as for the database.
    text = json.dumps(raw, ensure_ascii=False).encode("utf-8", "replace")
    try:
        return _adapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
    loc, parents = fault["loc"], [part for part in fault["loc"][:-1] if isinstance(part, str)]
    if fault["type"] == "unexpected_keyword_argument":
        said = f"a {parents[-1] if parents else kind.__name__.lower()} has no such field"
    elif fault["type"] == "value_error":
        said = str(fault.get("ctx", {})["error"])
    else:
        said = _SAID.get(fault["type"], f"{{}}: {fault['msg']}").format(shown(fault["input"]))
    raise Bad(said, ".".join(map(str, loc)))


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    return TypeAdapter(kind)
