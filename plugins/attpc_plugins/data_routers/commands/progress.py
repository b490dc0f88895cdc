"""How far a command is, on standard error while it works."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable

import typer

TERMINAL_S = 1.0
LINES_S = 30.0
"""Time between two reports, on a terminal and elsewhere."""

WIDTH = 78


@contextlib.asynccontextmanager
async def reported(text: Callable[[], str]) -> AsyncIterator[None]:
    """Show a text again and again: one line that changes on a terminal and is gone at the end, else lines."""
    report = asyncio.create_task(_report(text))
    try:
        yield
    finally:
        report.cancel()
        await asyncio.wait({report})
        if sys.stderr.isatty():
            typer.echo(f"\r{'':<{WIDTH}}\r", err=True, nl=False)


async def _report(text: Callable[[], str]) -> None:
    shown = sys.stderr.isatty()
    while True:
        await asyncio.sleep(TERMINAL_S if shown else LINES_S)
        typer.echo(f"\r{text():<{WIDTH}}" if shown else text(), err=True, nl=not shown)
