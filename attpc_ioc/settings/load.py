"""Reads a settings file, and reports all its faults at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from attpc_ioc.errors import SettingsError, system_reason

from .demo_place import demo_hint
from .faults import Fault, Loc, pydantic_faults
from .whole import Settings

SIZE_MAX_BYTES = 4_000_000
"""No settings file is larger: a larger file is a wrong path, such as a data file or `/dev/zero`."""

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
"""Limits of TOML's integers; the parser accepts larger ones, and Python refuses to print the largest."""

DEPTH_MAX = 50
"""Dotted keys can nest tables more deeply than recursive code can follow."""

_BOMS = {b"\xef\xbb\xbf": "UTF-8", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def load_settings(path: Path) -> Settings:
    """Read and check the settings file at `path`.

    Raises `SettingsError` with every fault: the key in TOML's terms, the name of the ECC server if it is
    known, and what would be right. A relative `ioc.state_dir` or `access.file` is made absolute from the
    directory of the settings file.
    """
    settings = parse_settings(_read(path), str(path))
    ioc, access = settings.ioc, settings.access
    if ioc.state_dir is not None:
        state_dir = _from_here(path, "ioc.state_dir", "a directory", ioc.state_dir)
        settings = settings.model_copy(update={"ioc": ioc.model_copy(update={"state_dir": state_dir})})
    if access.file is not None:
        file = _from_here(path, "access.file", "a file", access.file)
        settings = settings.model_copy(update={"access": access.model_copy(update={"file": file})})
    return settings


def _from_here(settings_file: Path, key: str, what: str, value: str) -> str:
    """Return a path of the settings as an absolute one; relative paths start at the settings file."""
    try:
        return str(settings_file.absolute().parent / Path(value).expanduser())
    except RuntimeError as err:
        raise SettingsError(
            str(settings_file), [f"{key} must be the path of {what}, not {value!r}: {err}"]
        ) from None


def parse_settings(text: str, file: str) -> Settings:
    """Check the `text` of a settings file called `file`; raises `SettingsError` like `load_settings`."""
    data = _parse(text, file)
    if faults := list(_beyond_toml(data)):
        raise SettingsError(file, [fault.line(data) for fault in faults])
    try:
        return Settings.model_validate(data)
    except ValidationError as err:
        faults = _once(pydantic_faults(Settings, err))
    raise SettingsError(file, [fault.line(data) for fault in faults])


def _once(faults: list[Fault]) -> list[Fault]:
    """Return the faults in the order of the file's keys, without duplicates."""
    return sorted(dict.fromkeys(faults), key=lambda fault: [_sort_key(part) for part in fault.loc])


def _sort_key(part: str | int) -> tuple[int, int, str]:
    if isinstance(part, int):
        return (0, part, "")
    sections = list(Settings.model_fields)
    return (1, sections.index(part) if part in sections else len(sections), part)


def _read(path: Path) -> str:
    file = str(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        hint = demo_hint()
        raise SettingsError(
            file, ["does not exist; `attpc-ioc init` writes a settings file", *([hint] if hint else [])]
        ) from None
    except IsADirectoryError:
        raise SettingsError(file, ["is a directory; the path of a settings file is needed"]) from None
    except (OSError, ValueError) as err:
        raise SettingsError(file, [f"cannot be read: {system_reason(err)}"]) from None
    if len(raw) > SIZE_MAX_BYTES:
        raise SettingsError(file, [f"has more than {SIZE_MAX_BYTES} bytes: this is not a settings file"])
    for bom, name in _BOMS.items():
        if raw.startswith(bom):
            raise SettingsError(
                file, [f"begins with a byte order mark of {name}: save it as UTF-8 without byte order mark"]
            )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        column = err.start - (raw.rfind(b"\n", 0, err.start) + 1) + 1
        raise SettingsError(
            file,
            [f"line {line}, byte {column}: is not UTF-8 (byte 0x{raw[err.start]:02x}): save it as UTF-8"],
        ) from None


def _parse(text: str, file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise SettingsError(file, ["is not readable TOML: lists or tables are nested too deeply"]) from None
    except ValueError as err:
        # Not only TOMLDecodeError: a number with thousands of digits raises a plain ValueError.
        raise SettingsError(file, [_syntax_fault(str(err), text)]) from None


def _beyond_toml(data: dict[str, Any]) -> Iterator[Fault]:
    """Yield values that the parser accepts but that no other code can handle, not even to show them."""
    todo: list[tuple[Loc, Any]] = [((), data)]
    while todo:
        loc, value = todo.pop()
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            yield Fault(loc, "must be a number of at most 64 bits")
        elif not isinstance(value, dict | list):
            continue
        elif len(loc) > DEPTH_MAX:
            yield Fault(loc[:4], f"must have at most {DEPTH_MAX} tables or lists inside each other")
        else:
            items = value.items() if isinstance(value, dict) else enumerate(value)
            todo += (((*loc, key), item) for key, item in items)


def _syntax_fault(message: str, text: str) -> str:
    match = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if not match:
        return f"is not valid TOML: {message}"
    what = message[: match.start()]
    if match[1]:
        return f"line {match[1]}, column {match[2]}: is not valid TOML: {what}"
    lines = text.split("\n")
    return f"line {len(lines)}, column {len(lines[-1]) + 1}: is not valid TOML: {what} (the file ends here)"
