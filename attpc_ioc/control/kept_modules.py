"""What of the modules is there after a restart: read back once, written when it changes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from attpc_ioc.log import get_logger
from attpc_ioc.model.fleet import DataLinkView, FleetChange, ModuleView, SourceView
from attpc_ioc.settings import EccSettings

from . import module_document
from .store import StateStore

log = get_logger(__name__)


class KeptModules:
    """The modules' document in the state directory.

    Entries of modules that the settings do not have at present stay in it: a module that comes back finds its
    own again.
    """

    def __init__(self, store: StateStore, eccs: tuple[EccSettings, ...]) -> None:
        self._store = store
        raw = store.load(module_document.DOCUMENT) or {}
        kept = raw.get("modules")
        entries: dict[str, Any] = dict(kept) if isinstance(kept, dict) else {}
        self.views = {ecc.name: _first_view(ecc, entries) for ecc in eccs}
        """The modules as they are known before anything was seen."""
        self._entries = entries | {name: module_document.entry(view) for name, view in self.views.items()}
        self._essences = {view.name: _essence(view) for view in self.views.values()}
        self._handle: asyncio.Handle | None = None

    def on_change(self, change: FleetChange) -> None:
        """Have what is kept written soon where it has changed."""
        for name in change.modules:
            view = change.fleet.modules[name]
            essence = _essence(view)
            if self._essences[name] != essence:
                self._essences[name] = essence
                self._entries[name] = module_document.entry(view)
                if self._handle is None:
                    # Once for all that change in one turn of the loop.
                    self._handle = asyncio.get_running_loop().call_soon(self.save)

    def save(self) -> None:
        """Give the store what has changed and was not given to it yet."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
            self._store.save(module_document.DOCUMENT, {"modules": self._entries.copy()})


def _essence(view: ModuleView) -> object:
    return (
        view.enabled,
        view.selected,
        view.loaded,
        view.clock_stale,
        view.unclocked,
        view.board_fault,
        view.unseen_end,
    )


def _first_view(ecc: EccSettings, entries: dict[str, Any]) -> ModuleView:
    view = ModuleView(name=ecc.name, kind=ecc.kind, url=ecc.url, host=ecc.host, sources=_sources(ecc))
    if ecc.name in entries:
        view = module_document.restore(view, entries[ecc.name])
    if view.selected is not None and not ecc.rule.accepts(view.selected):
        # The settings have changed meanwhile: this name would take over another board (rule 6).
        log.warning("selected config dropped", module=ecc.name, config=view.selected, rule=ecc.rule)
        view = replace(view, selected=None)
    return view


def _sources(ecc: EccSettings) -> tuple[SourceView, ...]:
    return tuple(
        SourceView(
            name=source.pv_name,
            sender_id=source.id,
            ecc=ecc.name,
            links=tuple(DataLinkView(k.name, str(k.address), k.port, k.type) for k in source.link),
        )
        for source in ecc.source
    )
