"""Numbers in texts, as EPICS base reads them: decimal, hexadecimal with `0x`, `nan` and `inf`."""

from __future__ import annotations

import re

SPACE = " \t\n\v\f\r"
"""Characters allowed before and after a number."""

_DECIMAL = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.ASCII | re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[+-]?0x([\da-f]+\.?[\da-f]*|\.[\da-f]+)(p[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse_double(text: str) -> float | None:
    """Return the number if all of `text` is one, else None; a number that is too large is infinite.

    EPICS base ignores what follows the number (`1.5 mm`); here such a text is not a number.
    """
    text = text.strip(SPACE)
    if _DECIMAL.fullmatch(text):
        return float(text)
    if not _HEXADECIMAL.fullmatch(text):
        return None
    try:
        return float.fromhex(text)
    except OverflowError:
        return float("-inf" if text.startswith("-") else "inf")
