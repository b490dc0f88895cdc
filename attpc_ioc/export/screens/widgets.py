"""The widgets of Phoebus's Display Builder that the screens use: versions and properties.

From the widget classes of Phoebus 5.0.5, file by file in `tests/export/phoebus_widgets.toml`. Phoebus
silently ignores a property that a widget does not have: a button whose confirmation property is misspelt acts
at once. With a wrong version Phoebus expects the properties of older programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

DISPLAY_VERSION = "2.0.0"

_EVERY = frozenset({"name", "class", "x", "y", "width", "height", "actions", "rules", "scripts"})
_VISIBLE = _EVERY | {"visible", "tooltip"}
_MACRO = _VISIBLE | {"macros"}
_PV = _VISIBLE | {"pv_name", "border_alarm_sensitive"}
_BORDER = frozenset({"border_width", "border_color"})
_TEXT = frozenset({"font", "foreground_color", "background_color"})
_CONFIRM = frozenset({"show_confirm_dialog", "confirm_message", "password"})
_FORMAT = frozenset({"format", "precision", "show_units", "wrap_words"})
_ALIGNED = frozenset({"horizontal_alignment", "vertical_alignment"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of widget; `parts` are the elements of its structured properties."""

    version: str
    properties: frozenset[str]
    parts: Mapping[str, frozenset[str]]


def _kind(version: str, *properties: frozenset[str], **parts: frozenset[str]) -> Kind:
    return Kind(version, frozenset().union(*properties), parts)


KINDS: Mapping[str, Kind] = {
    "label": _kind(
        "2.0.0",
        _MACRO | _TEXT | _ALIGNED | _BORDER,
        frozenset({"text", "transparent", "auto_size", "wrap_words", "rotation_step"}),
    ),
    "rectangle": _kind(
        "2.0.0",
        _MACRO,
        frozenset({"background_color", "transparent", "line_width", "line_color", "line_style"}),
        frozenset({"corner_width", "corner_height"}),
    ),
    "embedded": _kind("2.0.0", _MACRO | _BORDER, frozenset({"file", "resize", "group_name", "transparent"})),
    "textupdate": _kind(
        "2.0.0",
        _PV | _TEXT | _FORMAT | _ALIGNED | _BORDER,
        frozenset({"transparent", "interactive", "rotation_step"}),
    ),
    "textentry": _kind(
        "3.0.0", _PV | _TEXT | _FORMAT | _ALIGNED | _BORDER, frozenset({"enabled", "multi_line"})
    ),
    "action_button": _kind(
        "3.0.0",
        _PV | _TEXT | _CONFIRM | _ALIGNED,
        frozenset({"text", "transparent", "rotation_step", "enabled"}),
    ),
    "bool_button": _kind(
        "2.0.0",
        _PV | _TEXT | _CONFIRM | _ALIGNED,
        frozenset({"bit", "off_label", "off_color", "off_image", "on_label", "on_color", "on_image"}),
        frozenset({"show_led", "labels_from_pv", "enabled", "mode"}),
    ),
    "combo": _kind(
        "2.0.0",
        _PV | _TEXT | _CONFIRM,
        frozenset({"items", "items_from_pv", "editable", "enabled"}),
    ),
    "led": _kind(
        "2.0.0",
        _PV,
        frozenset({"bit", "off_label", "off_color", "on_label", "on_color", "font", "foreground_color"}),
        frozenset({"line_color", "square", "labels_from_pv"}),
    ),
    "progressbar": _kind(
        "2.0.0",
        _PV,
        frozenset({"fill_color", "background_color", "horizontal", "limits_from_pv", "minimum", "maximum"}),
        frozenset({"log_scale"}),
    ),
    "table": _kind(
        "2.0.0",
        _PV | _TEXT,
        frozenset({"show_toolbar", "columns", "editable", "row_selection_mode", "selection_pv"}),
        column=frozenset({"name", "width", "editable", "options"}),
    ),
    "stripchart": _kind(
        "2.1.0",
        _VISIBLE,
        frozenset({"foreground_color", "background_color", "show_grid", "title", "title_font"}),
        frozenset({"label_font", "scale_font", "show_toolbar", "show_legend", "start", "end"}),
        frozenset({"y_axes", "traces"}),
        y_axis=frozenset(
            {"title", "autoscale", "log_scale", "minimum", "maximum", "show_grid", "visible", "color"}
        ),
        trace=frozenset(
            {"name", "y_pv", "axis", "trace_type", "color", "line_width", "point_type", "point_size"}
            | {"visible"}
        ),
    ),
}
"""The widgets that the screens use, by type."""
