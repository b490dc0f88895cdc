"""What can be wrong with a file that is to be imported, each named with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attpc_ioc.errors import AttpcError

SHOWN = 20
"""Faults that are listed; of the rest only the number is told."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: the line where the run begins (from 1), the column where there is one, and what is wrong."""

    line: int
    column: str
    text: str

    def at(self, file: str) -> str:
        """Return the fault with its place."""
        column = f", column {self.column}" if self.column else ""
        return f"{file}: line {self.line}{column}: {self.text}"


class Bad(ValueError):
    """A value that cannot be taken; `column` names it. Its text says what would be right."""

    def __init__(self, text: str, column: str = "") -> None:
        self.column = column
        super().__init__(text)


class BrokenFile(AttpcError):
    """A file cannot be imported; nothing of it was."""

    def __init__(self, file: str, faults: Sequence[Fault], count: int | None = None) -> None:
        self.faults = tuple(faults)
        count = len(faults) if count is None else count
        lines = [fault.at(file) for fault in faults[:SHOWN]]
        if count > len(lines):
            lines.append(f"{file}: and {count - len(lines)} more")
        super().__init__("\n".join([*lines, "nothing was imported"]))


def shown(value: object) -> str:
    """Return a value of the file for a message, cut to what a line can hold."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
