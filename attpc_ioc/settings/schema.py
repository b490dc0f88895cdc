"""The JSON schema of the settings file, for editors and for the reference page."""

from __future__ import annotations

from typing import Any

from .whole import Settings


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12).

    It checks types, ranges and unknown keys; what concerns several keys together only `attpc-ioc check` does.
    """
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
