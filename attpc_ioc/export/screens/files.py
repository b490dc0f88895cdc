"""Makes all files of the screens and writes them into a directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from attpc_ioc.export.owned import is_screen, refuse_foreign
from attpc_ioc.files import make_folders, reaching, write_text
from attpc_ioc.model.command import ScopeKind
from attpc_ioc.pvs.table import PvEntry

from . import ecc, frame, rows, sheet, status
from .bob import Display, xml
from .history import history_screen
from .main import main_screen
from .plots import plots_screen
from .source import source_screen
from .table import Pvs
from .tables import tables_screen

NAMES = (
    frame.MAIN,
    rows.ECC_ROW,
    rows.ECC_ROWS,
    frame.ECC,
    ecc.CONFIG_ROW,
    ecc.CONFIG_ROWS,
    rows.ROUTER_ROW,
    rows.ROUTER_ROWS,
    frame.SOURCE,
    frame.PLOTS,
    frame.HISTORY,
    frame.TABLES,
    frame.SHEET,
    sheet.TEXT_ROW,
    sheet.NUMBER_ROW,
    frame.STATUS,
    status.PLUGIN_ROW,
)
"""All files that an export can make."""


def screens(table: Sequence[PvEntry], *, tables: bool = False) -> dict[str, str]:
    """Return the text of every file by its name; `main.bob` is the one to open.

    Parts whose PVs are not in the table, such as those of absent plugins, are left out; so are the tables of
    PVAccess unless `tables` says that they are served.
    """
    pvs = Pvs(table, served=tables)
    return {name: xml(display) for name, display in _displays(pvs)}


def _displays(pvs: Pvs) -> Iterator[tuple[str, Display]]:
    yield frame.MAIN, main_screen(pvs)
    yield rows.ECC_ROW, rows.ecc_row()
    yield rows.ECC_ROWS, rows.ecc_rows(pvs)
    yield frame.ECC, ecc.ecc_screen(pvs)
    yield ecc.CONFIG_ROW, ecc.config_row()
    yield ecc.CONFIG_ROWS, ecc.config_rows()
    if rows.has_routers(pvs):
        yield rows.ROUTER_ROW, rows.router_row(pvs)
        yield rows.ROUTER_ROWS, rows.router_rows(pvs)
    yield frame.SOURCE, source_screen(pvs)
    if frame.has_rates(pvs):
        yield frame.PLOTS, plots_screen(pvs)
    if frame.has_history(pvs):
        yield frame.HISTORY, history_screen(pvs)
    if pvs.tables:
        yield frame.TABLES, tables_screen(pvs)
    yield frame.SHEET, sheet.sheet_screen(pvs)
    if pvs.observables:
        yield sheet.TEXT_ROW, sheet.observable_row("entry string")
        yield sheet.NUMBER_ROW, sheet.observable_row("entry decimal")
    yield frame.STATUS, status.status_screen(pvs)
    if pvs.scopes(ScopeKind.PLUGIN):
        yield status.PLUGIN_ROW, status.plugin_row()


def check_screens(folder: Path, files: Mapping[str, str], *, force: bool = False) -> None:
    """Raise as `write_screens` does for files that no export made; write nothing."""
    refuse_foreign(folder, ((name, is_screen) for name in files), force=force)


def write_screens(folder: Path, files: Mapping[str, str], *, force: bool = False) -> tuple[str, ...]:
    """Write the files into a directory, which is made if needed; each file completely or not at all.

    Files of an earlier export that are no longer made, because a plugin was switched off, are deleted; their
    names are returned. Raises `AttpcError`, with nothing written, if a file of one of the names does not
    have the mark of an export, unless `force` is given, and `OSError` if the directory cannot be written.
    """
    check_screens(folder, files, force=force)
    make_folders(folder)
    for name, text in files.items():
        write_text(folder / name, text)
    left = [folder / name for name in NAMES if name not in files]
    gone = [path for path in left if path.is_file() and not path.is_symlink() and is_screen(path)]
    for path in gone:
        with reaching(path):
            path.unlink()
    return tuple(path.name for path in gone)
