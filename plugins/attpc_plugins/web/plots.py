"""Rates, events and disks over the last hours, kept by the server: a page that was just opened shows them.

These are the PVs that an archiver scans, of runs and data sources, plugins' rows included.
"""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from typing import Any

import numpy as np
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.states import Severity
from attpc_ioc.plugin.contract import PvSurface
from attpc_ioc.pvs.row import Archive
from attpc_ioc.pvs.table import PvEntry

from .operations import Operation, Parameter, packed
from .problems import Problem
from .rights import Rights, caller_of
from .shown import NUMERIC

STEP_S = 10.0
KEPT = 6 * 360
"""Samples: six hours."""

POINTS = 360
"""Points of a series, if not asked for others."""


class Series(BaseModel):
    """A number over time; null where it was not known."""

    model_config = ConfigDict(extra="forbid")

    values: list[float | None]


class PlotData(BaseModel):
    """Numbers over the last hours."""

    model_config = ConfigDict(extra="forbid")

    times: list[float]
    """Unix times in seconds, of all series; each is that of the newest sample of its point."""
    series: dict[str, Series]
    """By the full name of the PV. A point is the mean of its samples."""


class Plots:
    """Samples the PVs, and answers with what they were."""

    def __init__(self, pvs: PvSurface, rights: Rights) -> None:
        self._pvs = pvs
        self._rights = rights
        self._names = [entry.name for entry in pvs.table.values() if is_plotted(entry)]
        self._times = np.zeros(KEPT)
        self._values = np.full((len(self._names), KEPT), math.nan, np.float32)
        self._count = 0

    def operations(self, api: str) -> tuple[Operation, ...]:
        """Return what the API can do with plots."""
        return (
            Operation(
                "GET",
                f"{api}/plots",
                self.plots,
                "Rates, events and disks of the last six hours",
                {200: PlotData},
                parameters=(
                    Parameter("since", "Only what came after this Unix time.", schema={"type": "number"}),
                    Parameter(
                        "points",
                        "Points of a series at most.",
                        schema={"type": "integer", "minimum": 1, "maximum": KEPT, "default": POINTS},
                    ),
                    Parameter("pv", "The full name of a PV; may be repeated. Without it there are all."),
                ),
                problems=(404, 422),
            ),
        )

    async def run(self) -> None:
        """Take a sample every 10 s, for ever."""
        due = time.monotonic()
        while True:
            self.sample(time.time())
            due = max(due + STEP_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())

    def sample(self, now_s: float) -> None:
        """Take a sample of every series."""
        at = self._count % KEPT
        self._times[at] = now_s
        for index, name in enumerate(self._names):
            shown = self._pvs.read(name)
            known = isinstance(shown.value, int | float) and shown.severity is not Severity.INVALID
            self._values[index, at] = shown.value if known else math.nan
        self._count += 1

    async def plots(self, request: web.Request) -> web.Response:
        """Return the series."""
        hidden = self._rights.hidden(caller_of(request))
        index_of = {name: index for index, name in enumerate(self._names) if name not in hidden}
        wanted = request.query.getall("pv", list(index_of))
        if unknown := [name for name in wanted if name not in index_of]:
            raise Problem(404, f"{unknown[0]!r} is not kept; kept are {', '.join(index_of) or 'none'}")
        order = np.arange(max(0, self._count - KEPT), self._count) % KEPT
        order = order[self._times[order] > _number(request, "since", 0.0)]
        most = int(_number(request, "points", POINTS))
        if not 1 <= most <= KEPT:
            raise Problem(422, f"points: {most} is not a number from 1 to {KEPT}")
        values = self._values[[index_of[name] for name in wanted]][:, order]
        times, values = thinned(self._times[order], values, most)
        series: dict[str, Any] = {
            name: {"values": [float(f"{v:.6g}") if math.isfinite(v) else None for v in row]}
            for name, row in zip(wanted, values, strict=True)
        }
        return packed({"times": [round(float(at), 3) for at in times], "series": series})


def thinned(times: np.ndarray, values: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Return at most so many points, each the mean of equally many samples, the newest points complete.

    `times` has the shape (samples,), `values` (series, samples); what is not known (NaN) is left out of a
    mean. The oldest samples that fill no point are left out.
    """
    each = math.ceil(len(times) / most) if len(times) else 1
    kept = len(times) // each * each
    if each == 1:
        return times, values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of nothing is not known either
        means = np.nanmean(values[:, -kept:].reshape(len(values), -1, each), axis=2)
    return times[-kept:].reshape(-1, each)[:, -1], means


def is_plotted(entry: PvEntry) -> bool:
    """Return whether a PV is kept."""
    of_data = entry.scope.kind in (ScopeKind.SOURCE, ScopeKind.RUN)
    return of_data and entry.archive is Archive.SCAN and entry.row.record in NUMERIC


def _number(request: web.Request, name: str, default: float) -> float:
    text = request.query.get(name, "")
    try:
        found = float(text) if text else default
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise Problem(422, f"{name}: {text!r} is not a number")
    return found
