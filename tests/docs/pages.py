"""The generated reference pages; `python -m tests.docs.pages docs/reference` writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import typer

from attpc_ioc.cli.program import app
from tests.docs.commands_page import commands_page
from tests.docs.fields_page import fields_page
from tests.docs.hooks_page import hooks_page
from tests.docs.included import included_plugins
from tests.docs.pvs_page import pvs_page
from tests.docs.settings_page import settings_page

PAGES: dict[str, Callable[[], str]] = {
    "pvs.md": pvs_page,
    "fields.md": fields_page,
    "settings.md": settings_page,
    "hooks.md": hooks_page,
    "commands.md": lambda: commands_page(app, plugins_app()),
}


def plugins_app() -> typer.Typer:
    """Return the commands of the included plugins, without those of other installed plugins."""
    found = typer.Typer(name="attpc-ioc", rich_markup_mode=None, add_completion=False)
    for _name, plugin in included_plugins():
        if (add := getattr(plugin, "attpc_cli", None)) is not None:
            add(app=found)
    return found


def write(folder: Path) -> None:
    """Write every page into a folder."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
