"""The run sheet in the settings file: `[[plugins.run_history.observable]]`."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from attpc_ioc.settings import Section
from attpc_plugins.run_history.store.model.history import Observable
from attpc_plugins.run_history.store.model.values import ValueKind

from .names import observable_fault

PV_NAME = re.compile(r"[^\s\x00-\x1f\x7f]+")


def _name(text: str) -> str:
    if fault := observable_fault(text):
        raise ValueError(fault)
    return text


def _pv(text: str) -> str:
    if text and not PV_NAME.fullmatch(text):
        raise ValueError("must be the full name of a PV, without spaces")
    return text


class ObservableSettings(Section):
    """`[[plugins.run_history.observable]]`: one quantity of the run sheet, in the order of the file."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description="Its name, also of its PV `Obs:<name>`: letters, digits, `_` and "
        "`-`, 1 to 40 characters, a letter first."
    )
    type: ValueKind = Field(default=ValueKind.FLOAT, description="`integer`, `float` or `string`.")
    units: str = Field(default="", max_length=15, description="Its units, such as `mbar`.")
    comment: str = Field(default="", max_length=1000, description="A description for people.")
    pv: Annotated[str, AfterValidator(_pv)] = Field(
        default="",
        max_length=100,
        description="Full name of a PV anywhere on the network, read at start and stop of a run. "
        "Empty: people enter the value.",
    )
    experiment: str = Field(
        default="", max_length=200, description="The only experiment that has it; empty: all."
    )
    carry: bool = Field(
        default=True,
        description="Whether a run without an entry gets the value of the previous run.",
    )

    @property
    def observable(self) -> Observable:
        """The observable in the store's form."""
        return Observable(self.name, self.type, self.units, self.comment, self.pv)

    def of(self, experiment: str) -> bool:
        """Return whether an experiment has it."""
        return self.experiment in ("", experiment)


def _each_once(items: tuple[ObservableSettings, ...]) -> tuple[ObservableSettings, ...]:
    names = [item.name.lower() for item in items]
    twice = sorted({item.name for item in items if names.count(item.name.lower()) > 1})
    if twice:
        raise ValueError(f"observables must differ in more than upper and lower case: {', '.join(twice)}")
    return items


Observables = Annotated[tuple[ObservableSettings, ...], AfterValidator(_each_once)]
"""The type of the plugin's setting `observable`."""
