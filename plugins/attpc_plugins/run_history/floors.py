"""Run numbers that are known outside the database: no run gets one of them again."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import DatabaseError
from .high_water import last_numbers


def largest_known(folder: Path) -> dict[str, int]:
    """Return the largest number of each experiment that the state directory knows; nothing is changed.

    `folder` is the plugin's own. Raises `OSError`, and `DatabaseError` for a file that cannot be understood.
    """
    known = last_numbers(folder)
    for name, number in numbers_of_core(folder).items():
        known[name] = max(number, known.get(name, number))
    return known


def numbers_of_core(folder: Path) -> dict[str, int]:
    """Return the largest numbers that the core gave out itself, before there was a run history."""
    file = folder.parents[1] / "numbers.json"
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        numbers = {str(name): int(number) - 1 for name, number in document.get("next", {}).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise DatabaseError(f"{file} cannot be read: {error}; repair the file") from error
    return {name: number for name, number in numbers.items() if number >= 0 and name}
