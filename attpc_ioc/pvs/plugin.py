"""The rows of one plugin, `$(P)Plugin:<name>:`; the plugin host publishes them."""

from __future__ import annotations

from attpc_ioc.model.command import ScopeKind
from attpc_ioc.model.states import Severity

from .common import MESSAGE, MESSAGE_ELEMENTS
from .row import AlarmUse, Archive, Record, Row

KIND = ScopeKind.PLUGIN

STATUS = "Status_RBV"

STATUS_LABELS = ("Off", "Ok", "Degraded", "Failed")

ROWS: tuple[Row, ...] = (
    Row(
        STATUS,
        KIND,
        Record.MBBI,
        "Status of the plugin",
        labels=STATUS_LABELS,
        severities={2: Severity.MINOR, 3: Severity.MAJOR},
        initial=0,
        archive=Archive.MONITOR,
        alarm_tree=True,
        alarm=AlarmUse("plugin is in trouble", latching=False, delay_s=30),
        guidance="Message_RBV beside it says what is wrong with the plugin. "
        "It does not affect the run itself.",
        reason_row=MESSAGE,
    ),
    Row(
        MESSAGE,
        KIND,
        Record.LONG_TEXT,
        "Message of the plugin",
        initial="",
        elements=MESSAGE_ELEMENTS,
    ),
)
