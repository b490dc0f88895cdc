"""What the names of data files say: the stream that a file is a part of, and late data kept beside a file.

A data router names its files `CoBo0_AsAd1_2026-03-01T12:00:00.123_0007.graw`, or `MuTanT_…`: the source, the
time at which the stream began, and the part of the stream. It opens a file by name for every frame, so what
comes after a file was moved makes a new file of the same name, the *late tail*.
"""

from __future__ import annotations

import re

LATE_MOST = 27
"""The most late tails of one file."""

_TIMED = re.compile(
    r"(.*_\d{4}-?\d\d-?\d\d[T_ -]\d\d[:.h_-]?\d\d[:.m_-]?\d\d(?:[.,]\d+)?)_\d+(?:\.late9*[1-9])?\.graw",
    re.DOTALL,
)
_LATE = re.compile(r".*\.late9*[1-9]\.graw", re.DOTALL)


def late_name(name: bytes, count: int) -> bytes:
    """Return the name of the late tail number `count` of a file, from 1.

    `a_0000.late1.graw` to `late9`, then `late91` to `late99`, then `late991`: in the order of bytes they come
    one after the other, and between `a_0000.graw` and `a_0001.graw`, which is the order in which a run's
    files are read.
    """
    nines, digit = divmod(count - 1, 9)
    return name.removesuffix(b".graw") + b".late" + b"9" * nines + b"%d.graw" % (digit + 1)


def is_late(name: str) -> bool:
    """Return whether a file has the name of a late tail."""
    return _LATE.fullmatch(name) is not None


def stream_of(name: str) -> str:
    """Return the stream that a file is a part of; empty where the name does not have the stream's time.

    Two streams of one source never have the same time, so the files of one stream are of one run.
    """
    match = _TIMED.fullmatch(name)
    return match[1] if match else ""
