"""Checks for numbers, times and texts from outside: from hosts, servers, files of other programs.

Their source may be broken or hostile. What passes fits into every PV, file and column of the history;
anything else raises `ValueError` with the value, shortened, in its text.
"""

from __future__ import annotations

import math
import re

from attpc_ioc.printable import visible

MOST = 2**63 - 1
"""The largest number of a column of the history."""

MOST_SHOWN = 2**31 - 1
"""The largest number of a PV of whole numbers."""

EARLIEST_S = 0.0
LATEST_S = 7_258_118_400.0
"""Unix times of 1970-01-01 and 2200-01-01: no run and no file is from another time."""

TEXT_MOST = 4000
SHOWN = 60

_DIGITS = re.compile(rb"[0-9]{1,19}")
_DECIMAL = re.compile(rb"-?[0-9]{1,19}(\.[0-9]{1,9})?")


def count(value: object, most: int = MOST) -> int:
    """Return a whole number from 0 to `most`, given as one or as its decimal digits in bytes."""
    if isinstance(value, bytes) and _DIGITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{shown(value)} is not a whole number from 0 to {most}")
    return value


def amount(value: object, most: float = MOST) -> float:
    """Return a finite number from 0 to `most`; whole numbers of any length are compared exactly."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ValueError(f"{shown(value)} is not a number from 0 to {most:g}")
    return float(value)


def time_s(value: object) -> float:
    """Return a Unix time in seconds between 1970 and 2200, given as a number or as its digits in bytes."""
    if isinstance(value, bytes) and _DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not EARLIEST_S <= value <= LATEST_S:
        raise ValueError(f"{shown(value)} is not a time between 1970 and 2200")
    return float(value)


def text(value: str | bytes, most: int = TEXT_MOST) -> str:
    r"""Return a text of at most `most` characters, all of them printable; others are shown as `\x1b`.

    Bytes are read as UTF-8; what is not UTF-8 becomes U+FFFD.
    """
    # Cut before and after: an escape has several characters.
    begin = value[: most + 1].decode("utf-8", "replace") if isinstance(value, bytes) else value[: most + 1]
    whole = visible(begin)
    return whole if len(whole) <= most else f"{whole[: max(most - 4, 0)]} ..."[-most:]


def cut(value: str, most: int = TEXT_MOST) -> str:
    """Return the first `most` characters of a text that is printable already; `...` says that it had more."""
    return value if len(value) <= most else f"{value[:most]}..."


def shown(value: object) -> str:
    """Return any value for a message: short, and printable."""
    if isinstance(value, int) and value.bit_length() > 200:
        return f"a number of about {round(value.bit_length() * math.log10(2))} digits"
    return text(repr(value) if not isinstance(value, str | bytes) else repr(value[:SHOWN]), SHOWN)
