"""Texts of clients, hosts, servers and files, made harmless for whoever reads them.

Such a text can hold what a terminal obeys (escape sequences, C0 and C1 controls), what turns the order of
writing around (bidirectional marks), what ends a line in some programs only, and halves of surrogate pairs,
which no file takes. Here a character is harmless where `str.isprintable` says so; all others are escaped.
"""

from __future__ import annotations

import json
import re
from typing import Any

LINES = "\n\t"
"""The characters that a text of several lines keeps."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


def visible(text: str, keep: str = "") -> str:
    r"""Return a text with each character that is not printable written as `\x1b`, `\u202e` and the like.

    Characters in `keep` stay. It is for people: a text that has a backslash itself cannot be told apart.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c in keep or c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def one_line(text: str) -> str:
    """Return a text in one line: white space as blanks, all else that is not printable as `visible` does."""
    if text.isprintable():
        return text
    return visible("".join(" " if c.isspace() else c for c in text.replace("\r\n", "\n")))


def json_text(value: Any, **layout: Any) -> str:
    """Return a value as JSON, every character that is not printable escaped as JSON does it.

    `layout` is what `json.dumps` takes, such as `indent`; without, it is one line. What JSON does not have is
    written as its `str`.
    """
    text = json.dumps(value, default=str, ensure_ascii=False, **layout)
    if text.isprintable():
        return text
    # A line end within a text is escaped already: those that are there are the layout's.
    return "".join(c if c == "\n" or c.isprintable() else _as_json(c) for c in text)


def _as_json(char: str) -> str:
    """Return a character as JSON escapes it: by its UTF-16 code units."""
    return json.dumps(char, ensure_ascii=True)[1:-1]


def control_fault(text: str) -> str:
    """Return why a text that a client wrote is refused, empty where it is not.

    Tabs and line ends may be in it, and whatever any script of the world writes; control characters not: the
    text is shown by programs that are not ours.
    """
    found = _CONTROL.search(text)
    if found is None:
        return ""
    return f"character {found.start() + 1} of the text is the control character {visible(found.group())}"
