"""The base of all sections of the settings file, and checks of several values together.

All faults of a file are shown at once: correct values are checked together even if others are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from .faults import Fault, Loc, model_in

M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """Base of all sections: unknown keys are rejected, and values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def faults_together(self, loc: Loc) -> Iterator[Fault]:  # noqa: ARG002 - used by subclasses
        """Yield the faults of this section's values taken together; the section is at `loc`.

        A value that is wrong by itself is None here: see `with_right_values`.
        """
        yield from ()


def all_faults_together(section: Section, loc: Loc = ()) -> Iterator[Fault]:
    """Yield the faults of a section at `loc` and of those in it."""
    yield from section.faults_together(loc)
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            yield from all_faults_together(value, (*loc, key))
        for number, item in enumerate(value if isinstance(value, tuple) else ()):
            if isinstance(item, Section):
                yield from all_faults_together(item, (*loc, key, number))


def with_right_values(model: type[M], data: Mapping[str, Any], wrong: Set[Loc], loc: Loc = ()) -> M:
    """Return plain data at `loc` as an unchecked model, with None for each value at the places `wrong`."""
    values: dict[str, Any] = {}
    for key, field in model.model_fields.items():
        place, inner = (*loc, key), model_in(field.annotation)
        value = data.get(key, None if field.is_required() else field.default)
        if place in wrong:
            value = None
        elif inner is not None and isinstance(value, list | tuple):
            value = tuple(_right(inner, item, wrong, (*place, i)) for i, item in enumerate(value))
        elif inner is not None:
            value = _right(inner, value, wrong, place)
        values[key] = value
    return model.model_construct(_fields_set=data.keys() & values.keys(), **values)


def _right(model: type[BaseModel], value: Any, wrong: Set[Loc], loc: Loc) -> BaseModel | None:
    if isinstance(value, BaseModel):
        return value
    return with_right_values(model, value, wrong, loc) if isinstance(value, Mapping) else None
