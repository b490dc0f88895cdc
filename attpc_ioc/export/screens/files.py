"""All files of the screens, and writing them into a directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attpc_ioc.errors import AttpcError
from attpc_ioc.files import write_text
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.table import PvEntry

from . import ecc, frame, rows, sheet, status
from .bob import MARK, Display, xml
from .history import history_screen
from .main import main_screen
from .parts import DECIMAL, STRING
from .plots import plots_screen
from .source import source_screen
from .table import Pvs

_HEAD_BYTES = 400
"""As far as the mark is looked for."""


def screens(table: Sequence[PvEntry]) -> dict[str, str]:
    """Return the text of every file by its name; `main.bob` is the one to open.

    Parts whose PVs are not in the table are left out: those of plugins that are not there.
    """
    pvs = Pvs(table)
    return {name: xml(display) for name, display in _displays(pvs)}


def _displays(pvs: Pvs) -> Iterator[tuple[str, Display]]:
    yield frame.MAIN, main_screen(pvs)
    yield rows.ECC_ROW, rows.ecc_row()
    yield rows.ECC_ROWS, rows.ecc_rows(pvs)
    yield frame.ECC, ecc.ecc_screen(pvs)
    yield ecc.CONFIG_ROW, ecc.config_row()
    yield ecc.CONFIG_ROWS, ecc.config_rows()
    if rows.has_routers(pvs):
        yield rows.ROUTER_ROW, rows.router_row()
        yield rows.ROUTER_ROWS, rows.router_rows(pvs)
    yield frame.SOURCE, source_screen(pvs)
    if frame.has_rates(pvs):
        yield frame.PLOTS, plots_screen(pvs)
    if frame.has_history(pvs):
        yield frame.HISTORY, history_screen(pvs)
    yield frame.SHEET, sheet.sheet_screen(pvs)
    if pvs.observables:
        yield sheet.TEXT_ROW, sheet.observable_row(STRING)
        yield sheet.NUMBER_ROW, sheet.observable_row(DECIMAL)
    yield frame.STATUS, status.status_screen(pvs)
    if pvs.scopes(ScopeKind.PLUGIN):
        yield status.PLUGIN_ROW, status.plugin_row()


def write_screens(folder: Path, files: Mapping[str, str], *, force: bool = False) -> None:
    """Write the files into a directory, which is made where it is not there; each at once or not at all.

    Raises `AttpcError`, with nothing written, where a file of that name is somebody else's (it does not have
    the mark of an export) unless `force` is given, and `OSError` where the directory cannot be written.
    """
    foreign = [name for name in files if not force and not _ours(folder / name)]
    if foreign:
        raise AttpcError(
            f"{folder}: {', '.join(foreign)}: not made by this command, and left as it is; "
            "give another directory, or --force to replace"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_text(folder / name, text)


def _ours(path: Path) -> bool:
    """Tell whether a file may be replaced: it is not there, or has the mark."""
    try:
        with path.open("rb") as stream:
            return MARK.encode() in stream.read(_HEAD_BYTES)
    except FileNotFoundError:
        return True
