"""What a libca client is told of the PVs of an alarm tree: `camonitor` of EPICS base, and what it printed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.ca import CaPlace, Monitor, camonitor, eventually
from tests.support.patience import PATIENCE_S

OK = "NO_ALARM"
GONE = "DISCONNECTED"
LIMIT_S = 60.0
"""For a machine that does much else besides: what is waited for comes in a second or two elsewhere."""
SEVERITIES = ("MINOR", "MAJOR", "INVALID")


@dataclass
class Watch:
    """`seen` has every alarm that a PV was in, by its name, as `STATUS SEVERITY`; `now` the last one."""

    monitor: Monitor
    names: frozenset[str]
    seen: dict[str, set[str]] = field(default_factory=dict)
    now: dict[str, str] = field(default_factory=dict)
    _read: int = 0

    def look(self) -> None:
        """Take in the lines that have come."""
        lines = self.monitor.lines
        for line in lines[self._read :]:
            name, *words = line.split() or [""]
            if name not in self.names:  # libca's own words on a connection that is gone
                continue
            if "***" in words:
                alarm = GONE
            elif len(words) > 2 and words[-1] in SEVERITIES:
                alarm = " ".join(words[-2:])
            else:
                alarm = OK
            self.now[name] = alarm
            self.seen.setdefault(name, set()).add(alarm)
        self._read = len(lines)

    def is_in(self, names: Iterable[str], alarm: str) -> bool:
        """Return whether all of these PVs are in an alarm now."""
        self.look()
        return all(self.now.get(name) == alarm for name in names)

    async def until(self, names: str | Iterable[str], alarm: str, limit_s: float = PATIENCE_S) -> None:
        """Wait until PVs are in an alarm; the error tells what they are in instead."""
        which = [names] if isinstance(names, str) else list(names)
        assert which
        try:
            await eventually(lambda: self.is_in(which, alarm), limit_s=limit_s)
        except TimeoutError:
            others = {name: self.now.get(name) for name in which if self.now.get(name) != alarm}
            raise AssertionError(f"not {alarm} in {limit_s} s: {others}") from None

    async def until_seen(self, names: Iterable[str], alarm: str, limit_s: float = PATIENCE_S) -> None:
        """Wait until PVs have been in an alarm, now or before."""
        which = list(names)

        def all_seen() -> bool:
            self.look()
            return all(alarm in self.seen.get(name, ()) for name in which)

        await eventually(all_seen, f"{alarm} of {which}", limit_s)

    def missing(self, expected: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
        """Return, by PV, the alarms that it was expected in and was never seen in."""
        self.look()
        left = {name: set(alarms) - self.seen.get(name, set()) for name, alarms in expected.items()}
        return {name: alarms for name, alarms in left.items() if alarms}


@contextlib.asynccontextmanager
async def watching(place: CaPlace, names: Iterable[str]) -> AsyncIterator[Watch]:
    """Watch PVs for the length of a block; texts are shown as texts."""
    which = list(names)
    async with camonitor(place, "-S", *which) as monitor:
        watch = Watch(monitor, frozenset(which))

        def all_heard() -> bool:
            watch.look()
            return watch.now.keys() == watch.names

        await eventually(all_heard, "a first value of every PV")
        yield watch
