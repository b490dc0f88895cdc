"""What the names of data files say: the stream that a file is a part of, and late data kept beside a file.

A data router names its files `CoBo0_AsAd1_2026-03-01T12:00:00.123_0007.graw`, or `MuTanT_…`: the source, the
time at which the stream began, and the part of the stream. It opens a file by name for every frame, so what
comes after a file was moved makes a new file of the same name, the *late tail*.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

PART_DIGITS = 4

SPOILING = {
    "bytes": "has a name that is not UTF-8",
    "part": "is a part beyond 9999, which in the order of bytes comes before part 9999",
    "side": "has a data file's name in its own and is none",
}
"""Why the merger refuses a run with a file of some name, by the word that the agent on a host sends."""

LATE_MOST = 27
"""The most late tails of one file."""

_NAME = re.compile(
    r"(.*?)(?:_(\d{4}-?\d\d-?\d\d[T_ -]\d\d[:.h_-]?\d\d[:.m_-]?\d\d(?:[.,]\d+)?))?"
    r"_(\d+)((?:\.late9*[1-9])?)\.graw",
    re.DOTALL | re.ASCII,
)
_SENDER = re.compile(r"CoBo\d+_AsAd\d+|Mu[Tt][Aa][Nn][Tt]", re.ASCII)
_BOARD = re.compile(r"CoBo(\d{1,4})_AsAd\d+_.+\.graw", re.DOTALL)
_MUTANT = re.compile(r"Mu[Tt][Aa][Nn][Tt]_.+\.graw", re.DOTALL)
_SPOILS = re.compile(r"CoBo\d+_AsAd\d+|\.graw")
_SIDE = re.compile(r"CoBo\d+_AsAd\d+.*\.graw", re.DOTALL)
_PART = re.compile(r"_(\d+)(?:\.late\d+)?\.graw\Z")
_LATE = re.compile(r".*\.late9*[1-9]\.graw", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NameParts:
    """What the name of a data file says.

    `sender`: who sends its frames, such as `CoBo0_AsAd1`; `time`: when the stream began, empty where the name
    does not say so; `part`: of the stream, from 0; `late`: `.late1` and so on of a late tail, else empty.
    """

    sender: str
    time: str
    part: int
    late: str


def parts_of(name: str) -> NameParts | None:
    """Return what the name of a data file says; None for a name of another form."""
    match = _NAME.fullmatch(name)
    return NameParts(match[1], match[2] or "", int(match[3]), match[4]) if match is not None else None


def growing_parts(name: str) -> NameParts | None:
    """Return what the name of a file says whose frames are looked at while it grows; None for others.

    These are files of an AsAd board or the MuTAnT that have the stream's time. `agent_frames.pl` chooses the
    same ones.
    """
    parts = parts_of(name)
    if parts is None or not parts.time or parts.late or not _SENDER.fullmatch(parts.sender):
        return None
    return parts


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
    parts = parts_of(name)
    return f"{parts.sender}_{parts.time}" if parts is not None and parts.time else ""


def board_of(name: str) -> int | None:
    """Return the number of the CoBo whose data a file has; None if the name does not say so."""
    match = _BOARD.fullmatch(name)
    return int(match[1]) if match is not None and is_text(name) else None


def is_of_mutant(name: str) -> bool:
    """Return whether a file has the MuTAnT's frames."""
    return _MUTANT.fullmatch(name) is not None


def is_text(name: str) -> bool:
    """Return whether the bytes of a name are UTF-8."""
    return not any("\udc80" <= char <= "\udcff" for char in name)


def spoils_the_search(folder: str) -> bool:
    """Return whether a folder's path looks like a data file's: the merger searches the whole path."""
    return _SPOILS.search(folder) is not None


def spoils(name: str) -> str:
    """Return why a run with a file of this name cannot be merged, a word of `SPOILING`; empty if it can."""
    if not name.endswith(".graw"):
        return "side" if _SIDE.search(name) else ""
    if not is_text(name):
        return "bytes"
    match = _PART.search(name)
    return "part" if match and len(match[1]) > PART_DIGITS else ""


def sender_of(name: str) -> str:
    """Return the sender of a file's frames, such as `CoBo0_AsAd1`; empty where `stream_of` is."""
    parts = parts_of(name)
    return parts.sender if parts is not None and parts.time else ""


def is_sender(sender_id: str) -> Callable[[str], bool]:
    """Return a test for the senders of a data source, whose sender id is `CoBo[0]` or the MuTAnT's."""
    kind, _, instance = sender_id.partition("[")
    if kind == "CoBo":
        prefix = f"{kind}{instance.rstrip(']')}_"
        return lambda sender: sender.startswith(prefix)
    return lambda sender: sender != "" and not sender.startswith("CoBo")


def streams_in(names: Iterable[str]) -> frozenset[str]:
    """Return the streams of these files."""
    return frozenset(map(stream_of, names)) - {""}
