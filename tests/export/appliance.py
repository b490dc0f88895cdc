"""The engine of the EPICS Archiver Appliance, by the rules by which it keeps or loses a sample.

They are those of its `ArchivePVAction` (the request), `ArchiveEngine.addChannel` (the size of a buffer),
`ArchiveChannel` (time stamps), `ScannedArchiveChannel` and `SampleBuffer` (what is full loses its oldest).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

WRITE_PERIOD_S = 10.0
LEAST_PERIOD_S = 0.1
PAST_S = datetime(1991, 1, 1).timestamp()
AHEAD_S = 30 * 60.0
SCAN_JITTER = 0.95
NAME = re.compile(r"[a-zA-Z0-9_\-+:\[\]<>;/,#{}^]+")


@dataclass
class Channel:
    """What is archived of one PV. `lost` counts by reason."""

    method: str
    period_s: float
    kept: list[float] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    kind: str = ""
    _buffer: int = 0
    _written_s: float = float("-inf")

    @property
    def capacity(self) -> int:
        """How many samples fit between two writes of the buffer."""
        return round(max(WRITE_PERIOD_S / self.period_s, 1.0)) + 1

    def sample(self, kind: str, stamp_s: float, now_s: float, *, first: bool = False) -> None:
        """Take a sample that came from the PV: its type, its time stamp and the engine's own time.

        `first`: the first one after a connection, which is again the last one where nothing changed.
        """
        self.kind = self.kind or kind
        if kind != self.kind:
            self.lost["type"] += 1
        elif stamp_s < PAST_S:
            self.lost["before 1991"] += 1
        elif stamp_s > now_s + AHEAD_S:
            self.lost["ahead"] += 1
        elif self.kept and stamp_s < self.kept[-1]:
            self.lost["back in time"] += 1
        elif self.kept and stamp_s == self.kept[-1]:
            self.lost["same time"] += not first
        elif self.method == "MONITOR" or not self.kept or self._due(stamp_s):
            self._keep(stamp_s, now_s)

    def _due(self, stamp_s: float) -> bool:
        return stamp_s - self.kept[-1] >= SCAN_JITTER * self.period_s

    def _keep(self, stamp_s: float, now_s: float) -> None:
        # The writer may come at any moment; it is taken to come as late as it can.
        if now_s - self._written_s >= WRITE_PERIOD_S:
            self._buffer, self._written_s = 0, now_s
        self._buffer += 1
        if self._buffer > self.capacity:
            self.lost["buffer full"] += 1
        self.kept.append(stamp_s)


def requests(text: str) -> dict[str, Channel]:
    """Take a request as `archivePV` does; raises where it would leave a PV out or change what is asked."""
    found: dict[str, Channel] = {}
    asked: Any = json.loads(text)
    assert isinstance(asked, list)
    for one in asked:
        assert isinstance(one, Mapping)
        assert all(isinstance(value, str) for value in one.values()), "a value that is no text is left out"
        assert set(one) == {"pv", "samplingmethod", "samplingperiod"}
        assert NAME.fullmatch(one["pv"])
        assert one["samplingmethod"] in ("SCAN", "MONITOR")
        period_s = float(one["samplingperiod"])
        assert period_s >= LEAST_PERIOD_S, "a shorter period is made longer"
        assert one["pv"] not in found
        found[one["pv"]] = Channel(one["samplingmethod"], period_s)
    return found
