"""The reference pages made from the program; `python -m tests.docs.pages docs/reference` writes them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from attpc_ioc.cli import app
from attpc_ioc.export.commands_page import commands_page
from attpc_ioc.export.hooks_page import hooks_page
from attpc_ioc.export.pvs_page import pvs_page
from attpc_ioc.export.settings_page import settings_page

PAGES: dict[str, Callable[[], str]] = {
    "pvs.md": pvs_page,
    "settings.md": settings_page,
    "hooks.md": hooks_page,
    "commands.md": lambda: commands_page(app),
}


def write(folder: Path) -> None:
    """Write every page into a folder."""
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
