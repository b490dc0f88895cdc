"""The static properties of a process variable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attpc_ioc.ioc.ca.protocol import ChannelType

Scalar = int | float | str
Value = int | float | str | tuple[Scalar, ...]
"""Python value of a PV: int for ENUM and LONG, float for DOUBLE, str for STRING and for long text (CHAR),
a tuple of these for arrays."""

SEVERITY_LABELS = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")
"""Alarm severities by number, as EPICS base names them."""

STATUS_LABELS = (
    *("NO_ALARM", "READ", "WRITE", "HIHI", "HIGH", "LOLO", "LOW", "STATE", "COS", "COMM", "TIMEOUT"),
    *("HWLIMIT", "CALC", "SCAN", "LINK", "SOFT", "BAD_SUB", "UDF", "DISABLE", "SIMM"),
    *("READ_ACCESS", "WRITE_ACCESS"),
)
"""Alarm statuses by number, as EPICS base names them."""

INVALID = SEVERITY_LABELS.index("INVALID")
UDF = STATUS_LABELS.index("UDF")

_NATIVE = (ChannelType.ENUM, ChannelType.LONG, ChannelType.DOUBLE, ChannelType.STRING, ChannelType.CHAR)


@dataclass(frozen=True, slots=True, eq=False)
class PVSpec:
    """The static properties of one PV.

    - `rtyp`: EPICS's record type, shown as `.RTYP`; it determines the fields of the PV.
    - `dtype`: ENUM, LONG, DOUBLE, STRING, or CHAR for long text (UTF-8, always a text and never numbers).
    - `max_elements`: maximum length of an array; for long text in bytes, including its NUL.
    - `labels`: of an ENUM, by number, at most 16; Channel Access carries 25 bytes of each.
    - `label_severities`: severity of a label's number (`.ZRSV` and so on); shown, not applied.
    - `limit_severities`: `HHSV`, `HSV`, `LSV`, `LLSV`; shown, not applied: each post has its alarm.
    - `hopr` … `drvl`: in `units`; `drvl` and `drvh` limit what a put may write.
    - `mdel`, `adel`: a change greater than this is a VALUE or LOG event; negative: every post is, even of
      an equal value.
    - `max_chars`: maximum characters of a writable long text; 0: as many as fit.

    Raises ValueError for what Channel Access cannot express.
    """

    name: str
    rtyp: str
    dtype: ChannelType
    max_elements: int = 1
    labels: tuple[str, ...] = ()
    desc: str = ""
    units: str = ""
    precision: int = 0
    hopr: float | None = None
    lopr: float | None = None
    hihi: float | None = None
    high: float | None = None
    low: float | None = None
    lolo: float | None = None
    drvh: float | None = None
    drvl: float | None = None
    adel: float = 0.0
    mdel: float = 0.0
    label_severities: Mapping[int, int] = field(default_factory=dict)
    limit_severities: Mapping[str, int] = field(default_factory=dict)
    writable: bool = False
    max_chars: int = 0
    is_array: bool = field(init=False)
    """Whether the value is a tuple."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_array", self.max_elements > 1 and self.dtype is not ChannelType.CHAR)
        if self.dtype not in _NATIVE:
            raise ValueError(f"{self.name}: {self.dtype!r} is not a native type of this server")
        if self.max_elements < 1 or not 0 <= self.precision <= 15:
            raise ValueError(f"{self.name}: max_elements or precision out of range")
        if self.dtype is ChannelType.CHAR and self.max_elements < 2:
            raise ValueError(f"{self.name}: long text needs room for a character and its NUL")

    @property
    def is_text(self) -> bool:
        """Whether the value is a long text."""
        return self.dtype is ChannelType.CHAR

    @property
    def default(self) -> Value:
        """The value before the first post."""
        if self.is_array:
            return ()
        if self.dtype in (ChannelType.STRING, ChannelType.CHAR):
            return ""
        return 0.0 if self.dtype is ChannelType.DOUBLE else 0


def clip_utf8(text: str, size: int) -> bytes:
    """Return `text` as UTF-8 of at most `size` bytes, cut between characters; ends at a NUL."""
    data = text.split("\0", 1)[0].encode("utf-8", "replace")
    if len(data) > size:
        data = data[:size].decode("utf-8", "ignore").encode()
    return data
