"""The reference page of the settings, generated from their JSON schema."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from attpc_ioc.settings.schema import settings_schema
from attpc_ioc.settings.toml_text import toml_value

HEAD = """# Settings

One TOML file, given to `attpc-ioc run FILE`. `attpc-ioc init` writes one with comments, `attpc-ioc check
FILE` checks it, and `attpc-ioc schema` prints the JSON schema from which this page is generated. Unknown keys
are errors. All faults are reported at once, each with its key and the valid values.

Numbers carry their unit in the name: `_s` is seconds. Indexes in messages count from 0: `ecc[2]` is the third
`[[ecc]]` table.
"""

TAIL = """## What is checked beyond single keys

- Names of ECC servers, ids and names of sources, and names of the links of one source must differ, and not
  only in upper and lower case; so must host and port of the ECC servers, and address and port of the links of
  one source.
- Names of ECC servers and sources are parts of PV names: `Run`, `Ecc`, `IOC`, `Obs`, `History`, `Log`,
  `Data`, `Plugin`, `Control`, `Fleet`, `Routers`, `Alarms`, `Sources`, `PVI` and the names of the system's
  PVs are reserved.
- The longest PV name made from the prefix and these names has at most 60 characters.
- At most one ECC server is of the kind `mutant`, because the MuTAnT clocks and triggers all CoBos.
- Every ECC server has a source, and every source a link: without one Configure fails.
- `moving_period_s` <= `quiet_period_s` <= `backoff_max_s`.
- Each list of stages has each kind once.
"""

_TABLES = {
    "ioc": "[ioc]",
    "run": "[run]",
    "poll": "[poll]",
    "limits": "[limits]",
    "order": "[order]",
    "channel_access": "[channel_access]",
    "pva": "[pva]",
    "channel_finder": "[channel_finder]",
    "access": "[access]",
    "ecc": "[[ecc]]",
    "source": "[[ecc.source]]",
    "link": "[[ecc.source.link]]",
    "plugins": "[plugins.NAME]",
}


def settings_page() -> str:
    """Return the page as Markdown."""
    schema = settings_schema()
    blocks = [HEAD]
    for key, prop in schema["properties"].items():
        blocks += _section(schema, key, prop)
    blocks.append(TAIL)
    return "\n".join(blocks)


def _section(schema: Mapping[str, Any], key: str, prop: Mapping[str, Any]) -> Iterator[str]:
    about = prop.get("description", "")
    model = _model(schema, prop)
    yield f"## `{_TABLES[key]}`\n\n{about}\n"
    if model is None:
        return
    below: list[tuple[str, Mapping[str, Any]]] = []
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model["properties"].items():
        if name in _TABLES and _model(schema, field) is not None:
            below.append((name, field))
            continue
        required = name in model.get("required", ())
        meaning = field.get("description", "").replace("|", "\\|")
        lines.append(f"| `{name}` | {_type(schema, field)} | {_default(field, required)} | {meaning} |")
    yield "\n".join(lines) + "\n"
    for name, field in below:
        yield from _section(schema, name, field)


def _resolved(schema: Mapping[str, Any], prop: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in prop:
        return schema["$defs"][prop["$ref"].rpartition("/")[2]]
    return prop


def _model(schema: Mapping[str, Any], prop: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of the table that `prop` is, or is a list of."""
    found = _resolved(schema, prop)
    if found.get("type") == "array":
        found = _resolved(schema, found.get("items", {}))
    return found if "properties" in found else None


def _type(schema: Mapping[str, Any], prop: Mapping[str, Any]) -> str:
    found = _resolved(schema, prop)
    if "anyOf" in found:
        kinds = [_type(schema, one) for one in found["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in found:
        return ", ".join(f"`{json.dumps(value)}`" for value in found["enum"])
    if found.get("type") == "array":
        return f"list of {_type(schema, found['items'])}"
    word = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    text = word.get(found.get("type", ""), "table")
    if "exclusiveMinimum" in found:
        return f"{text}, above {found['exclusiveMinimum']:.12g} to {found['maximum']:.12g}"
    if "minimum" in found:
        return f"{text}, {found['minimum']:.12g} to {found['maximum']:.12g}"
    return text


def _default(prop: Mapping[str, Any], required: bool) -> str:
    if required:
        return "must be given"
    default = prop.get("default")
    return "" if default is None else f"`{toml_value(default)}`"
