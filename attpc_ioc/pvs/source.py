"""The rows of one data source (a CoBo or a MuTAnT), `$(P)<source>:`."""

from __future__ import annotations

from attpc_ioc.model.command import Scope, ScopeKind
from attpc_ioc.model.fleet import Fleet, ModuleView, SourceView
from attpc_ioc.model.states import Severity, State, Status

from .common import MODULE_STATES, STATE_SEVERITIES
from .ecc import module_state
from .row import Archive, Reading, Record, Row, Value

KIND = ScopeKind.SOURCE


class _Where:
    """Which module drives each source; rebuilt only for a snapshot with other sources.

    The sources come from the settings, so the index nearly always fits; a search would make a refresh of a
    thousand sources quadratic.
    """

    def __init__(self) -> None:
        self._index: dict[str, tuple[str, int]] = {}

    def find(self, fleet: Fleet, name: str) -> tuple[SourceView, ModuleView] | None:
        """Return the source of this name and its module, or None."""
        for known in (True, False):
            if not known:
                self._index = {
                    source.name: (key, i)
                    for key, module in fleet.modules.items()
                    for i, source in enumerate(module.sources)
                }
            key, i = self._index.get(name, ("", 0))
            module = fleet.modules.get(key)
            if module is not None and i < len(module.sources) and module.sources[i].name == name:
                return module.sources[i], module
        return None


_where = _Where()


def _state(fleet: Fleet, scope: Scope) -> Value | Reading:
    found = _where.find(fleet, scope.name)
    if found is None:
        return Reading(int(State.OFFLINE), Severity.INVALID, Status.UDF)
    return module_state(found[1])


def _ecc(fleet: Fleet, scope: Scope) -> str:
    found = _where.find(fleet, scope.name)
    return found[1].name if found else ""


def _id(fleet: Fleet, scope: Scope) -> str:
    found = _where.find(fleet, scope.name)
    return found[0].sender_id if found else ""


ROWS: tuple[Row, ...] = (
    Row(
        "State_RBV",
        KIND,
        Record.MBBI,
        "State of the ECC server that drives it",
        _state,
        labels=MODULE_STATES,
        severities=STATE_SEVERITIES,
        archive=Archive.MONITOR,
        guidance="See the ECC server that Ecc_RBV names.",
    ),
    Row("Ecc_RBV", KIND, Record.STRINGIN, "The ECC server that drives it", _ecc),
    Row("Id_RBV", KIND, Record.STRINGIN, "Its sender id on the wire", _id),
)
