"""Standard output and standard error: text for people is escaped where needed, exports are UTF-8.

Without this, a title with an `é` would end a command with a traceback on a terminal whose encoding lacks it,
and a title with an escape sequence would control the terminal. Unprintable characters are escaped here: in
messages that quote a file's name, usage errors, plugins' commands and tracebacks.
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
    """A text stream that escapes unprintable characters; all else is passed to the wrapped stream."""

    def __init__(self, stream: TextIO) -> None:
        self.exact = stream

    def write(self, text: str) -> int:
        """Write a text; line ends and tabs are kept."""
        self.exact.write(visible(text, LINES))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.exact, name)


def set_up_streams() -> None:
    """Escape unprintable characters and replace those that the encoding lacks, from here on.

    Applies to standard output and standard error; `exact` and `exact_output` bypass it.
    """
    codecs.register(_found)
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            encoding = codecs.lookup(stream.encoding).name
            stream.reconfigure(encoding=ASCII if encoding == "ascii" else encoding, errors=errors)
    sys.stdout, sys.stderr = (cast("TextIO", _ForPeople(exact(s))) for s in (sys.stdout, sys.stderr))


def exact(stream: TextIO) -> TextIO:
    """Return the stream that writes every character as it is, for callers that escape texts themselves.

    Coloured tables and progress bars need it: they control the terminal on purpose.
    """
    return stream.exact if isinstance(stream, _ForPeople) else stream


def exact_output() -> None:
    """Make standard output UTF-8 and exact from here on, for output to programs and files."""
    sys.stdout = stream = exact(sys.stdout)
    if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
        stream.reconfigure(encoding="utf-8")


def exact_unless_shown() -> None:
    """Make standard output UTF-8 if it is a file or a pipe; a terminal keeps its encoding."""
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
