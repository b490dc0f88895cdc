"""Faults of a file that is imported, with their places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from attpc_ioc.errors import AttpcError

SHOWN = 20
"""Faults that are listed; the rest are only counted."""

LINE_BYTES = 1 << 28
"""Bytes of a line in memory at a time while it is checked."""


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
    """A file cannot be imported; nothing of it was imported."""

    def __init__(self, file: str, faults: Sequence[Fault], count: int | None = None) -> None:
        self.faults = tuple(faults)
        count = len(faults) if count is None else count
        lines = [fault.at(file) for fault in faults[:SHOWN]]
        if count > len(lines):
            lines.append(f"{file}: and {count - len(lines)} more")
        super().__init__("\n".join([*lines, "nothing was imported"]))


def not_utf8(stream: TextIO) -> Fault:
    """Return the fault of a file that is not UTF-8, with the line of the first wrong byte.

    Reading the text fails many lines earlier, because files are decoded in blocks. The stream is useless
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
        # A carriage return alone also ends a line, as in text mode.
        line += text.endswith(b"\n") + text.count(b"\r") - text.endswith(b"\r\n")
    return Fault(line, "", "was not UTF-8 a moment ago; is it being written?")
