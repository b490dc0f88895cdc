"""The modules' part of the state directory: enabled, selected, loaded, stale clocks and faults of boards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attpc_ioc.log import get_logger
from attpc_ioc.model.boards import BoardFault
from attpc_ioc.model.config import PART_LEVEL, ConfigName, Loaded
from attpc_ioc.model.fleet import ModuleView, Sent
from attpc_ioc.model.states import Operation, State

log = get_logger(__name__)

DOCUMENT = "modules"


def entry(module: ModuleView) -> dict[str, Any]:
    """Return what is kept of one module."""
    return {
        "url": module.url,
        "enabled": module.enabled,
        "selected": str(module.selected) if module.selected else None,
        "loaded": {part: getattr(module.loaded, part) for part in PART_LEVEL},
        "clock_stale": module.clock_stale,
        "unclocked": module.unclocked,
        "unseen_end": (
            {"operation": str(module.unseen_end.operation), "target": int(module.unseen_end.target)}
            if module.unseen_end
            else None
        ),
        "board_fault": module.board_fault.to_json() if module.board_fault is not None else None,
    }


def restore(view: ModuleView, raw: Any) -> ModuleView:
    """Return the view with what was kept of it; what cannot be read is left at its default and logged."""
    if not isinstance(raw, dict):
        log.error("state of a module is damaged", module=view.name, value=raw)
        return view
    changes: dict[str, Any] = {}
    try:
        if isinstance(raw.get("enabled"), bool):
            changes["enabled"] = raw["enabled"]
        if raw.get("selected"):
            changes["selected"] = ConfigName.parse(str(raw["selected"]))
        loaded = raw.get("loaded") or {}
        parts = {p: loaded.get(p) for p in PART_LEVEL}
        changes["loaded"] = Loaded(**{p: None if v is None else str(v) for p, v in parts.items()})
        changes["clock_stale"] = raw.get("clock_stale") is True
        changes["unclocked"] = raw.get("unclocked") is True
        changes["board_fault"] = BoardFault.from_json(raw.get("board_fault"))
        if (sent := raw.get("unseen_end")) is not None:
            changes["unseen_end"] = Sent(Operation(sent["operation"]), State(sent["target"]))
        if raw.get("url", view.url) != view.url:
            log.warning("ECC server has another address", module=view.name, old=raw["url"], new=view.url)
            # What was loaded is in another server's boards: whatever this one is seen to have is unknown.
            changes |= {"loaded": Loaded(), "board_fault": None, "unseen_end": None}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("state of a module is damaged", module=view.name, reason=error)
    if (fault := changes.get("board_fault")) is not None:
        changes["result"] = view.result.noted(fault.text)
    return replace(view, **changes)
