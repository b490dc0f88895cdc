"""Standard output in whatever encoding it has: text for people is shown as far as it goes, exports are UTF-8.

Without this, a title with an `é` would end a command in a traceback where the terminal's encoding has none.
"""

from __future__ import annotations

import codecs
import io
import sys
from encodings import ascii as ascii_codec

ASCII = "attpc_ioc_ascii"
"""ASCII by another name: on a stream whose encoding is called ASCII, click writes UTF-8."""


def set_up_streams() -> None:
    """Have characters that standard output and standard error cannot encode replaced from here on."""
    codecs.register(_found)
    for stream, errors in ((sys.stdout, "replace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            encoding = codecs.lookup(stream.encoding).name
            stream.reconfigure(encoding=ASCII if encoding == "ascii" else encoding, errors=errors)


def exact_output() -> None:
    """Have standard output be UTF-8 from here on: what follows is for programs and files."""
    stream = sys.stdout
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
