"""A validator for the part of JSON schema (draft 2020-12) that the settings use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}

KNOWN = {
    "$schema $defs $ref title description default examples format type properties required items enum anyOf",
    "additionalProperties minimum maximum exclusiveMinimum minItems minLength maxLength pattern",
}
KEYWORDS = frozenset(word for line in KNOWN for word in line.split())


def schema_faults(schema: Mapping[str, Any], value: Any) -> list[str]:
    """Return why `value` does not fit `schema`; raises `ValueError` for a keyword that is not known here."""
    return list(_faults(schema, schema, value, "$"))


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise `ValueError` where a schema, or one inside it, is not well formed."""
    _check(schema, schema, "$")


def _check(root: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> None:
    if unknown := schema.keys() - KEYWORDS:
        raise ValueError(f"{where}: unknown keywords {sorted(unknown)}")
    if "$ref" in schema:
        _resolve(root, schema["$ref"])
    if "type" in schema and schema["type"] not in TYPES:
        raise ValueError(f"{where}: {schema['type']!r} is no type")
    if "pattern" in schema:
        re.compile(schema["pattern"])
    for key in ("properties", "$defs"):
        for name, inner in schema.get(key, {}).items():
            _check(root, inner, f"{where}.{name}")
    for number, inner in enumerate(schema.get("anyOf", ())):
        _check(root, inner, f"{where}.anyOf[{number}]")
    for key in ("items", "additionalProperties"):
        if isinstance(inner := schema.get(key), Mapping):
            _check(root, inner, f"{where}.{key}")


def _resolve(root: Mapping[str, Any], ref: str) -> Mapping[str, Any]:
    match = re.fullmatch(r"#/\$defs/(\w+)", ref)
    if not match or match[1] not in root["$defs"]:
        raise ValueError(f"{ref!r} leads nowhere")
    return root["$defs"][match[1]]


def _faults(root: Mapping[str, Any], schema: Mapping[str, Any], value: Any, where: str) -> Iterator[str]:
    if "$ref" in schema:
        yield from _faults(root, _resolve(root, schema["$ref"]), value, where)
    if "anyOf" in schema and all(list(_faults(root, one, value, where)) for one in schema["anyOf"]):
        yield f"{where}: fits none of anyOf"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: not one of {schema['enum']}"
    if "type" in schema:
        wrong_bool = isinstance(value, bool) and schema["type"] != "boolean"
        if wrong_bool or not isinstance(value, TYPES[schema["type"]]):
            yield f"{where}: no {schema['type']}"
            return
    match value:
        case dict():
            yield from _object(root, schema, value, where)
        case list():
            if len(value) < schema.get("minItems", 0):
                yield f"{where}: too few items"
            for number, item in enumerate(value):
                yield from _faults(root, schema.get("items", {}), item, f"{where}[{number}]")
        case str():
            if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
                yield f"{where}: wrong length"
            if not re.search(schema.get("pattern", ""), value):
                yield f"{where}: does not match {schema['pattern']}"
        case int() | float():
            if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
                yield f"{where}: out of range"
            if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
                yield f"{where}: out of range"


def _object(
    root: Mapping[str, Any], schema: Mapping[str, Any], value: dict[str, Any], where: str
) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value)
    for key, item in value.items():
        if key in properties:
            yield from _faults(root, properties[key], item, f"{where}.{key}")
        elif schema.get("additionalProperties") is False:
            yield f"{where}: {key} is unknown"
        elif isinstance(extra := schema.get("additionalProperties"), Mapping):
            yield from _faults(root, extra, item, f"{where}.{key}")
