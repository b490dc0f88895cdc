"""A plugin's section of the settings, `[plugins.<name>]`: where it is, and how it is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from attpc_ioc.errors import SettingsError
from attpc_ioc.model.names import FleetNames

M = TypeVar("M", bound=BaseModel)

Sections = Mapping[str, Mapping[str, Any]]
"""`[plugins]` of the settings: a section for each plugin that has one, by its name."""


def switched_off(name: str, sections: Sections) -> bool:
    """Return whether the settings switch this plugin off; the key is of every plugin's section."""
    return sections.get(name, {}).get("enabled") is False


def section_of(name: str, sections: Sections) -> dict[str, Any]:
    """Return the plugin's own keys of its section."""
    return {key: value for key, value in sections.get(name, {}).items() if key != "enabled"}


def checked_section(
    file: str, name: str, sections: Sections, model: type[M], names: FleetNames | None = None
) -> M:
    """Return the plugin's section of `file` as its model.

    `names` is the context of the validation; None where the fleet's names are not checked. Raises
    `SettingsError` with a fault for each key that is wrong.
    """
    try:
        return model.model_validate(section_of(name, sections), context=names)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, ('plugins', name, *fault['loc'])))}: {fault['msg']}"
            for fault in error.errors()
        ]
    raise SettingsError(file, faults)
