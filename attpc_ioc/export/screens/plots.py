"""The plots of rate and disk over time, and the screen of the large ones."""

from __future__ import annotations

from collections.abc import Sequence

from attpc_ioc.model.command import ScopeKind

from . import theme
from .bob import Color, Display, Part, Value, Widget
from .frame import PLOTS, screen
from .parts import Box, card
from .table import Pvs

_PERIOD = "30 minutes"
_STEP = 2
"""Phoebus's trace type for values that hold until the next one."""
MAX_TRACES = len(theme.LINES)
"""More lines cannot be distinguished."""


def plots_screen(pvs: Pvs) -> Display:
    """Return the screen: rates, events and disks beside each other, `MAX_TRACES` sources in each plot."""
    counted = frozenset(pvs.scopes(ScopeKind.SOURCE, "Router:EventRate_RBV"))
    columns = 3 if counted else 2
    width = (theme.WIDTH - (columns + 1) * theme.EDGE) // columns
    sources = pvs.scopes(ScopeKind.SOURCE, "Router:Rate_RBV")
    half = (theme.HEIGHT - theme.BAR_HEIGHT - 3 * theme.EDGE) // 2
    height = half if len(sources) > MAX_TRACES else 2 * half + theme.EDGE
    widgets: list[Widget] = []
    left = Box(theme.EDGE, theme.BAR_HEIGHT + theme.EDGE, width, height)
    for first in range(0, len(sources), MAX_TRACES):
        some = sources[first : first + MAX_TRACES]
        rates = [(name, f"$(P){name}:Router:Rate_RBV") for name in some]
        widgets += plot("Rate of each data router", "MB/s", rates, left, legend=True)
        if counted:
            events = [(n, f"$(P){n}:Router:EventRate_RBV" if n in counted else "") for n in some]
            box = left._replace(x=left.x + width + theme.EDGE)
            widgets += plot("Events of each data router", "1/s", events, box, legend=True)
        right = left._replace(x=left.x + (columns - 1) * (width + theme.EDGE))
        widgets += disk_plot(some, right, legend=True)
        left = left._replace(y=left.y + height + theme.EDGE)
    return screen(pvs, PLOTS, "Rates and disks", tuple(widgets), left.y)


def rate_plot(box: Box) -> tuple[Widget, ...]:
    """Return a low plot of the rate of all data routers together."""
    return plot("Rate", "MB/s", [("Rate", "$(P)Run:Rate_RBV")], box, low=True)


def disk_plot(sources: Sequence[str], box: Box, *, legend: bool = False) -> tuple[Widget, ...]:
    """Return a plot of the data routers' used disk space; a low one has no legend."""
    lines = [(name, f"$(P){name}:Router:DiskUsed_RBV") for name in sources[:MAX_TRACES]]
    return plot("Disks used", "%", lines, box, top=100.0, legend=legend, low=not legend)


def plot(
    title: str,
    units: str,
    lines: Sequence[tuple[str, str]],
    box: Box,
    *,
    top: float | None = None,
    legend: bool = False,
    low: bool = False,
) -> tuple[Widget, ...]:
    """Return a card with a plot of the last half hour; the axis ends at `top` or follows the values.

    The title is above the plot, or in a `low` one, of which it would take a quarter, along the axis. A line
    without a PV is left out, and keeps its colour: a source has the same one in each plot.
    """
    axis: dict[str, Value] = {
        "title": f"{title}, {units}" if low else "",
        "autoscale": top is None,
        "log_scale": False,
        "show_grid": True,
        "visible": True,
    }
    if top is not None:
        axis |= {"minimum": 0.0, "maximum": top}
    look: dict[str, Value] = {
        "label_font": theme.SMALL,
        "scale_font": theme.SMALL,
        "foreground_color": theme.TEXT,
        "background_color": theme.CARD,
        "show_toolbar": False,
        "show_legend": legend,
        "start": _PERIOD,
        "y_axes": (Part("y_axis", axis),),
        "traces": tuple(
            _trace(name if legend else "", pv, color)
            for (name, pv), color in zip(lines, theme.LINES, strict=False)
            if pv
        ),
    }
    above = 4 if low else 30
    inside = Widget(
        "stripchart", title, box.x + 4, box.y + above, box.width - 8, box.height - above - 4, look
    )
    return (*card("" if low else f"{title}, {units}", box, ScopeKind.SYSTEM), inside)


def _trace(name: str, pv: str, color: Color) -> Part:
    values: dict[str, Value] = {
        "name": name,
        "y_pv": pv,
        "axis": 0,
        "trace_type": _STEP,
        "color": color,
        "line_width": 2,
        "point_type": 0,
        "point_size": 6,
        "visible": True,
    }
    return Part("trace", values)
