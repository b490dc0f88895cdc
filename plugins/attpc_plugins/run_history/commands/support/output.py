"""The option for the format of a list, and the printing of its pages."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated, Protocol, TypeVar

import typer

from attpc_ioc.streams import exact_output
from attpc_plugins.run_history.store.model.history import Cursor


class Output(StrEnum):
    """The format of a list."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def _for_programs(kind: Output) -> Output:
    if kind is not Output.TABLE:
        exact_output()
    return kind


FormatOption = Annotated[
    Output,
    typer.Option(
        "--format",
        help="table for people; csv, or json (one object a line), for programs.",
        callback=_for_programs,
    ),
]


class Page(Protocol):
    """One page of a list, and the start of the next."""

    @property
    def next(self) -> Cursor | None:
        """Where the next page begins, or None."""
        ...


P = TypeVar("P", bound=Page)


async def print_pages(
    ask: Callable[[int, Cursor | None], Awaitable[P]], write: Callable[[P], int], limit: int, output: Output
) -> None:
    """Request and print pages until there are `limit` entries (0: all).

    `ask` is called with the number left and where to continue; `write` prints a page and returns how many
    entries it has. A table says at its end that there are more.
    """
    after: Cursor | None = None
    left = limit or sys.maxsize
    while left > 0:
        page = await ask(left, after)
        left -= write(page)
        after = page.next
        if after is None:
            break
    sys.stdout.flush()
    if output is Output.TABLE and after is not None:
        newest = "this is the newest" if limit == 1 else f"these are the newest {limit}"
        typer.echo(f"{newest}; there are more (--limit)", err=True)
