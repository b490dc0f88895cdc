"""Writes settings as a TOML file, with a comment for each key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.items import Item

from .ecc_sections import EccSettings, LinkSettings, SourceSettings
from .whole import Settings

WIDTH = 100


def toml_value(value: Any) -> str:
    """Return a value as TOML, with inline tables; `TypeError` for what TOML lacks, such as None."""
    return _item(value).as_string()


def _item(value: Any) -> Item:
    match value:
        case Enum():
            return tomlkit.item(value.value)
        case Mapping():
            table = tomlkit.inline_table()
            for key, inner in value.items():
                table.append(str(key), _item(inner))
            return table
        case list() | tuple():
            array = tomlkit.array()
            array.extend(map(_item, value))
            return array
        case _:
            return tomlkit.item(value)


def settings_text(settings: Settings, heading: str = "") -> str:
    """Return a commented file that loads as `settings`; defaults are comments.

    A line that begins with `# ` is a comment; one with `#` and a key is a default, or an example if there
    is no default: without the `#` it takes effect.
    """
    blocks = [_comment(heading)] if heading else []
    blocks.append(_comment(Settings.model_fields["ecc"].description or ""))
    blocks.append(_explanation(EccSettings, "ecc"))
    blocks.append(_explanation(SourceSettings, "ecc.source"))
    blocks.append(_explanation(LinkSettings, "ecc.source.link"))
    blocks += [_server(ecc) for ecc in settings.ecc]
    for key, field in Settings.model_fields.items():
        value = getattr(settings, key)
        if isinstance(value, BaseModel):
            blocks.append([*_comment(field.description or ""), f"[{key}]", *_keys(value, explained=True)])
    blocks.append(_comment(Settings.model_fields["plugins"].description or ""))
    blocks += [_plugin(name, section) for name, section in settings.plugins.items()]
    return _joined(blocks)


def short_text(settings: Settings, heading: str, ioc_keys: Sequence[str], rest: str) -> str:
    """Return a file with the fleet and these keys of `[ioc]` with comments; `rest` is its last line.

    It loads as `settings` if only the fleet and `[ioc]` differ from the defaults.
    """
    other = [key for key in type(settings.ioc).model_fields if key not in ioc_keys]
    ioc = Settings.model_fields["ioc"]
    return _joined(
        [
            _comment(heading),
            _comment(Settings.model_fields["ecc"].description or ""),
            *(_server(ecc) for ecc in settings.ecc),
            [
                *_comment(ioc.description or ""),
                "[ioc]",
                *_keys(settings.ioc, explained=True, leave_out=other),
            ],
            [f"# {rest}"],
        ]
    )


def _joined(blocks: Iterable[Iterable[str]]) -> str:
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def _comment(text: str) -> list[str]:
    lines = [line for part in text.split("\n") for line in (textwrap.wrap(part, WIDTH - 2) or [""])]
    return [f"# {line}".rstrip() for line in lines]


def _keys(section: BaseModel, *, explained: bool = False, leave_out: Iterable[str] = ()) -> list[str]:
    """Return the lines of a table: values that are not defaults, or `explained` all keys with comments."""
    lines: list[str] = []
    for key, field in type(section).model_fields.items():
        if key in leave_out:
            continue
        value = getattr(section, key)
        is_default = not field.is_required() and value == field.default
        if explained:
            lines += _comment(field.description or "")
        if not is_default:
            lines.append(f"{key} = {toml_value(value)}")
        elif explained:
            example = value if value is not None else (field.examples or [""])[0]
            lines.append(f"#{key} = {toml_value(example)}")
    return lines


def _explanation(model: type[BaseModel], table: str) -> list[str]:
    lines = [f"# [[{table}]]"]
    for key, field in model.model_fields.items():
        text = f"{key}: {field.description}"
        if not field.is_required() and field.default not in ("", ()):
            text += f" Default: {toml_value(field.default)}."
        lines += [f"#   {line}" for line in textwrap.wrap(text, WIDTH - 4, subsequent_indent="  ")]
    return lines


def _plugin(name: str, section: Mapping[str, Any]) -> list[str]:
    keys = (tomlkit.dumps({key: _item(value)}).rstrip() for key, value in section.items())
    return [f"[plugins.{name}]", *keys]


def _server(ecc: EccSettings) -> list[str]:
    lines = ["[[ecc]]", *_keys(ecc, leave_out=["source"])]
    for source in ecc.source:
        lines += ["[[ecc.source]]", *_keys(source, leave_out=["link"])]
        for link in source.link:
            lines += ["[[ecc.source.link]]", *_keys(link)]
    return lines
