"""The plots of rate and disk over time."""

from __future__ import annotations

from collections.abc import Sequence

from . import theme
from .bob import Color, Part, Value, Widget

_PERIOD = "30 minutes"
_STEP = 2
"""Phoebus's trace type of values that stay until the next one."""
MAX_TRACES = len(theme.DISK_LINES)
"""More lines than these cannot be told from each other."""


def rate_plot(x: int, y: int, width: int, height: int) -> Widget:
    """Return the rate of all data routers together."""
    return plot("Rate of all routers", "MB/s", [("Rate", "$(P)Run:Rate_RBV")], x, y, width, height)


def disk_plot(sources: Sequence[str], x: int, y: int, width: int, height: int) -> Widget:
    """Return how full the disks of the data routers are."""
    lines = [(name, f"$(P){name}:Router:DiskUsed_RBV") for name in sources[:MAX_TRACES]]
    return plot("Disks used", "%", lines, x, y, width, height, top=100.0)


def plot(
    title: str,
    units: str,
    lines: Sequence[tuple[str, str]],
    x: int,
    y: int,
    width: int,
    height: int,
    *,
    top: float | None = None,
) -> Widget:
    """Return a plot of PVs over the last half hour; the axis ends at `top` or follows the values."""
    axis: dict[str, Value] = {
        "title": units,
        "autoscale": top is None,
        "log_scale": False,
        "minimum": 0.0,
        "maximum": 100.0 if top is None else top,
        "show_grid": True,
        "visible": True,
    }
    look: dict[str, Value] = {
        "title": title,
        "title_font": theme.TITLE,
        "label_font": theme.SMALL,
        "scale_font": theme.SMALL,
        "foreground_color": theme.TEXT,
        "background_color": theme.CARD,
        "show_toolbar": False,
        "show_legend": False,
        "start": _PERIOD,
        "y_axes": (Part("y_axis", axis),),
        "traces": tuple(
            _trace(name, pv, color) for (name, pv), color in zip(lines, theme.DISK_LINES, strict=False)
        ),
    }
    return Widget("stripchart", title, x, y, width, height, look)


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
