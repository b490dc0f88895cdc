"""The JSON schema of the settings file, for editors and for the reference page."""

from __future__ import annotations

from typing import Any

from .whole import Settings


def settings_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12).

    It covers types, ranges and unknown keys; only `attpc-ioc check` checks several keys together.
    """
    schema = Settings.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
