"""Standard output and standard error: text for people is shown as far as it goes, exports are UTF-8.

Without this, a title with an `é` would end a command in a traceback where the terminal's encoding has none,
and a title with an escape sequence would steer the terminal. What is not printable is escaped here, whoever
writes it: a message that quotes a file's name, a usage error, a plugin's command, a traceback.
"""

from __future__ import annotations

import codecs
import io
import sys
from encodings import ascii as ascii_codec
from typing import Any, TextIO, cast

from attpc_ioc.printable import LINES, visible

ASCII = "attpc_ioc_ascii"
"""ASCII by another name: on a stream whose encoding is called ASCII, click writes UTF-8."""


class _ForPeople:
    """A text stream that writes what is not printable escaped; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.exact = stream

    def write(self, text: str) -> int:
        """Write a text; line ends and tabs stay."""
        self.exact.write(visible(text, LINES))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exact, name)


def set_up_streams() -> None:
    """Have characters escaped from here on that are not printable, and those replaced that have no code.

    That goes for standard output and standard error; `exact` and `exact_output` get around it.
    """
    codecs.register(_found)
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            encoding = codecs.lookup(stream.encoding).name
            stream.reconfigure(encoding=ASCII if encoding == "ascii" else encoding, errors=errors)
    sys.stdout, sys.stderr = (cast("TextIO", _ForPeople(exact(s))) for s in (sys.stdout, sys.stderr))


def exact(stream: TextIO) -> TextIO:
    """Return the stream that writes every character as it is: for who makes all texts harmless by itself.

    It is for tables in colours and progress bars, which steer the terminal on purpose.
    """
    return stream.exact if isinstance(stream, _ForPeople) else stream


def exact_output() -> None:
    """Have standard output be UTF-8 from here on, and exact: what follows is for programs and files."""
    sys.stdout = stream = exact(sys.stdout)
    if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
        stream.reconfigure(encoding="utf-8")


def exact_unless_shown() -> None:
    """Have standard output be UTF-8 where it is a file or a pipe; a terminal gets what it can show."""
    if not sys.stdout.isatty():
        exact_output()


def _found(name: str) -> codecs.CodecInfo | None:
    if name != ASCII:
        return None
    known = ascii_codec.getregentry()
    return codecs.CodecInfo(
        name=ASCII,
        encode=known.encode,
        decode=known.decode,
        incrementalencoder=known.incrementalencoder,
        incrementaldecoder=known.incrementaldecoder,
    )
