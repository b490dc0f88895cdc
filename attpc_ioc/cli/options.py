"""Arguments, options and behaviour shared by several commands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attpc_ioc.errors import AttpcError, SettingsError
from attpc_ioc.settings.demo_place import VARIABLE, demo_hint

if TYPE_CHECKING:
    from attpc_ioc.pvs.table import PvEntry
    from attpc_ioc.settings import Settings

SettingsFile = Annotated[Path, typer.Argument(metavar="FILE", help="The settings file (TOML).")]
LogLevel = Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR.")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Write logs as JSON, one object a line.")]

STDOUT = Path("-")


def set_up_log(level: str, as_json: bool) -> None:
    """Start logging to standard error; an unknown `level` is a usage error."""
    from attpc_ioc.log import set_up_logging

    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    if level.upper() not in levels:
        raise typer.BadParameter(f"{level} is not a level; use {', '.join(levels[:-1])} or {levels[-1]}")
    set_up_logging(level=level.upper(), as_json=as_json)


@contextlib.contextmanager
def naming_file(file: Path | None) -> Iterator[None]:
    """Add the file's name to faults of the settings that plugins or the PV table find."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(str(file or error.file), error.faults) from None


def settings_file(given: Path | None, how: str) -> Path:
    """Return the settings file that was given, or else the one in the variable.

    Raises `AttpcError`, which says `how` to give one, without either.
    """
    if file := given or (Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None):
        return file
    hint = demo_hint()
    raise AttpcError(f"no settings file: give {how} or set {VARIABLE}{f'; {hint}' if hint else ''}")


def whole_table(settings: Settings) -> tuple[PvEntry, ...]:
    """Return the PV table with the rows of all installed plugins."""
    from attpc_ioc.app import load_plugins, make_table

    return make_table(settings, load_plugins(settings))
