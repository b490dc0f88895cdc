"""The base of all sections of the settings file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections: nothing unknown is accepted, values cannot be changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)
