"""What can be wrong with a file that is to be imported, each named with its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from attpc_ioc.errors import AttpcError

SHOWN = 20
"""Faults that are listed; of the rest only the number is told."""

LINE_BYTES = 1 << 28
"""What is in memory at a time of a line that is looked at for its faults."""


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


class BrokenFile(AttpcError):
    """A file cannot be imported; nothing of it was."""

    def __init__(self, file: str, faults: Sequence[Fault], count: int | None = None) -> None:
        self.faults = tuple(faults)
        count = len(faults) if count is None else count
        lines = [fault.at(file) for fault in faults[:SHOWN]]
        if count > len(lines):
            lines.append(f"{file}: and {count - len(lines)} more")
        super().__init__("\n".join([*lines, "nothing was imported"]))


def not_utf8(stream: TextIO) -> Fault:
    """Return the fault of a file that is no UTF-8, with the line of the first byte that is none.

    Who reads text is told of it many lines before: a file is decoded in pieces. The stream is of no use
    afterwards.
    """
    raw = stream.buffer
    raw.seek(0)
    line = 1
    while text := raw.readline(LINE_BYTES):
        try:
            text.decode()
        except UnicodeDecodeError as error:
            line += text[: error.start].count(b"\r")
            found = text[error.start]
            return Fault(line, "", f"is not UTF-8: byte 0x{found:02x}, {error.reason}; save it as UTF-8")
        # A carriage return alone ends a line too, as it does for who reads text.
        line += text.endswith(b"\n") + text.count(b"\r") - text.endswith(b"\r\n")
    return Fault(line, "", "was not UTF-8 a moment ago; is it being written?")
