"""Reports what became of the files of runs to the core, once each, and forgets what nobody needs any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from attpc_ioc.model.events import RunFiles
from attpc_ioc.plugin import PluginContext

from .closings import Closing, ClosingStore, Phase
from .figures import Figures, figures_of, is_bad

LATE_RUNS = 10
"""Late data are recognised as those of one of this many closed runs of a router, and checks are recorded."""


async def report(ctx: PluginContext, store: ClosingStore, closing: Closing, lock_s: float) -> None:
    """Emit the state of a closing: the event and `reported` are written in one transaction.

    While the disk fails the core keeps both and writes them later. Raises `ClosingBusy`.
    """
    async with store.locked(closing.router, lock_s):
        now = store.find(closing.run, closing.router)
        if now is None or now.token != closing.token:
            return
        store.keep(replace(now, reported=closing.to_report))
        figures = Figures() if closing.frames is None else figures_of(closing.frames)
        bad = any(map(is_bad, closing.frames or ())) or bool(closing.differs)
        checked = None if closing.checked_s is None else not bad
        await ctx.tell(
            RunFiles,
            experiment=closing.run.experiment,
            number=closing.run.number,
            router=closing.router,
            sources=closing.sources,
            state=closing.state.label,
            files=closing.files,
            data_bytes=closing.data_bytes,
            location=closing.location,
            message=closing.full_message,
            manifest=closing.manifest,
            **asdict(figures),
            sync=closing.sync,
            checked=checked,
        )


def forget_old(store: ClosingStore, closings: Sequence[Closing]) -> None:
    """Keep only the last finished closing of a router: a restarted IOC shows it.

    A closing that was given up stays while its files may be in the staging folder, so that no later run gets
    them, and the last few whose routers may still write late data, or whose frames may be checked.
    """
    over = [closing for closing in closings if not closing.open and closing.reported == closing.to_report]
    for closing in over[:-1]:
        if closing.phase is Phase.DROPPED and closing.chosen:
            continue
        if store.find(closing.run, closing.router) != closing:
            continue
        needed = bool(closing.streams) or closing.frames is not None
        if not closing.late_pending and not (needed and closing in over[-LATE_RUNS:]):
            store.remove(closing)
        elif closing.manifest:  # it is reported, and it can be large
            store.keep(replace(closing, manifest=""))
