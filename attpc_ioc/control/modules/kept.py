"""What of the modules is there after a restart: read back once, written when it changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter

from pydantic import TypeAdapter

from attpc_ioc.eventlog import EventLog
from attpc_ioc.log import get_logger
from attpc_ioc.model.boards import BoardFault
from attpc_ioc.model.config import ConfigName, Loaded
from attpc_ioc.model.fleet import DataLinkView, ModuleView, Sent, SourceView
from attpc_ioc.settings import EccSettings

log = get_logger(__name__)

TOPIC = "modules"


@dataclass(frozen=True, slots=True)
class KeptModule:
    """What is kept of one module, under its name; the fields are those of `ModuleView`."""

    url: str
    enabled: bool = True
    selected: ConfigName | None = None
    loaded: Loaded = Loaded()
    clock_stale: bool = False
    unclocked: bool = False
    board_fault: BoardFault | None = None
    unseen_end: Sent | None = None


KEPT_MODULE = TypeAdapter(KeptModule)

_FIELDS = tuple(KeptModule.__dataclass_fields__)
_kept_of = attrgetter(*_FIELDS)


class KeptModules:
    """The modules' topic in the state database.

    Rows of modules that the settings do not have at present stay in it: a module that comes back finds its
    own again.
    """

    def __init__(self, event_log: EventLog, eccs: tuple[EccSettings, ...]) -> None:
        self._kept = event_log.kept(TOPIC, KEPT_MODULE)
        for name, fault in self._kept.bad.items():
            log.error("state of a module is damaged", module=name, reason=fault)
        self.views = {ecc.name: _first_view(ecc, self._kept.values.get(ecc.name)) for ecc in eccs}
        """The modules as they are known before anything was seen."""
        for view in self.views.values():
            self.follow(view)

    def follow(self, view: ModuleView) -> None:
        """Have what is kept of a module written soon where it has changed."""
        now = KeptModule(*_kept_of(view))
        if self._kept.values.get(view.name) != now:
            self._kept.keep(view.name, now)


def _first_view(ecc: EccSettings, kept: KeptModule | None) -> ModuleView:
    view = ModuleView(name=ecc.name, kind=ecc.kind, url=ecc.url, host=ecc.host, sources=_sources(ecc))
    if kept is None:
        return view
    if kept.url != view.url:
        log.warning("ECC server has another address", module=view.name, old=kept.url, new=view.url)
        # What was loaded is in another server's boards: whatever this one is seen to have is unknown.
        kept = replace(kept, url=view.url, loaded=Loaded(), board_fault=None, unseen_end=None)
    if kept.selected is not None and not ecc.rule.accepts(kept.selected):
        # The settings have changed meanwhile: this name would take over another board (rule 6).
        log.warning("selected config dropped", module=ecc.name, config=kept.selected, rule=ecc.rule)
        kept = replace(kept, selected=None)
    if kept.board_fault is not None:
        view = replace(view, result=view.result.noted(kept.board_fault.text))
    return replace(view, **{name: getattr(kept, name) for name in _FIELDS})


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
