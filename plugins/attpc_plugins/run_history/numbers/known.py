"""Run numbers known outside the history's database: no run gets one of them again."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attpc_ioc.eventlog.log import read_kept
from attpc_ioc.shell import PluginState
from attpc_plugins.run_history.errors import DatabaseError
from attpc_plugins.run_history.state import on_disk

from .reserved import TOPIC, Reserved, ReservedNumbers, old_numbers

CORE = "numbers"
"""The topic in which the core keeps the next number of each experiment."""


def largest_known(folder: Path) -> dict[str, int]:
    """Return the largest number of each experiment in the state directory, without changing anything.

    `folder` is the plugin's. Raises `OSError`, and `DatabaseError` for unreadable contents.
    """
    state = folder.parents[1]
    try:
        ours, cores = on_disk(folder, TOPIC), read_kept(state, CORE)
    except (sqlite3.Error, ValueError) as error:
        raise DatabaseError(f"the state database in {state} cannot be read: {error}") from error
    known: dict[str, int] = {}
    for name, number in (
        *((name, _number_of(value)) for name, value in ours.items()),
        *((name, value - 1) for name, value in cores.items() if isinstance(value, int)),
        *((name, reserved.number) for name, reserved in old_numbers(folder).items()),
        *_before(state / "numbers.json").items(),
    ):
        if name and number >= 0:
            known[name] = max(number, known.get(name, number))
    return known


async def raise_floors(state: PluginState, before: Mapping[str, int]) -> dict[str, int]:
    """Store the largest known numbers, so that none is given again; return those of each experiment."""
    floors = largest_known(state.folder)
    for name, number in before.items():
        floors[name] = max(number, floors.get(name, number))
    reserved = ReservedNumbers(state)
    for name, number in floors.items():
        if number >= reserved.at_least(name):
            reserved.use(Reserved(name, number, "", time.time()))
    await state.flush()
    return floors


def _number_of(value: Any) -> int:
    number = value.get("number") if isinstance(value, dict) else None
    return number if isinstance(number, int) else -1


def _before(file: Path) -> dict[str, int]:
    """Return the largest numbers given by version 0.1 of the core itself."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): int(number) - 1 for name, number in document.get("next", {}).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatabaseError(f"{file} cannot be read: {error}; repair the file") from error
