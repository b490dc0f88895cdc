"""The base of all sections of the settings file, and the checks that concern several values.

All faults of a file are shown at once: right values are checked together even where others are wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from .faults import Fault, Loc, model_in

M = TypeVar("M", bound=BaseModel)


class Section(BaseModel):
    """Base of all sections: nothing unknown is accepted, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def faults_together(self, loc: Loc) -> Iterator[Fault]:  # noqa: ARG002 - for those that have any
        """Yield what is wrong with the values of this section, which is at `loc`, taken together.

        A value that is wrong by itself is None here: see `what_is_right`.
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


def what_is_right(model: type[M], data: Mapping[str, Any], wrong: Set[Loc], loc: Loc = ()) -> M:
    """Return plain data at `loc` as an unchecked model, with None for each value of the places `wrong`."""
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
    return what_is_right(model, value, wrong, loc) if isinstance(value, Mapping) else None
