"""Figures of how the program is built: what a put and a poll pass through, and how much there is of it.

    python -m benchmarks.house [--page PAGE --column NAME]

A fleet of one CoBo, its IOC first without and then with the run history, real Channel Access and SOAP.
Counted are calls of this program's functions. Not counted are the simulator's, and what Python makes itself,
such as comprehensions and methods of dataclasses; a coroutine counts once, however often it is resumed.

A put is `caput -c` of `Ecc:cobo0:Describe` or `Ecc:cobo0:Undo`, from before the client connects until 50 ms
after its end. A changed poll begins when another client moves the ECC server and ends 50 ms after the IOC has
seen that. Each is done several times, and the least of each figure is taken: what else the IOC does meanwhile
is not part of it.

With --page the figures become the column NAME of the table in that page.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import contextlib
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attpc_plugins
import pytest

import attpc_ioc
from attpc_ioc.model.fleet import Fleet
from attpc_ioc.model.states import State
from attpc_ioc.plugin.spec import Specification
from benchmarks.support.page import write_between_marks
from tests.support.history import NAME, connected, given_plugins
from tests.support.imports import circles
from tests.support.rig import Rig, rig

ROOT = Path(attpc_ioc.__file__).parents[1]
PRODUCT = (ROOT / "attpc_ioc", Path(attpc_plugins.__file__).parent)
SIMULATOR = ROOT / "attpc_ioc" / "simulator"
TIMES = 10
SETTLE_S = 0.05
MARK = "house"

RESUMED = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
RUN_FIELDS = {"experiment", "number", "title", "operator", "run_class", "outcome"}
"""A class that declares two of these describes a run."""


class Entries:
    """Counts the functions of the program that are entered, in every thread, while it is switched on."""

    def __init__(self) -> None:
        self._on = False
        self._ours: dict[CodeType, str] = {}
        self._again: dict[int, FrameType] = {}
        self.calls: dict[CodeType, int] = {}
        self.snapshots = 0

    def install(self) -> None:
        """Watch this thread and those that begin later."""
        threading.setprofile(self._event)
        sys.setprofile(self._event)

    @contextlib.contextmanager
    def counting(self) -> Iterator[None]:
        """Count from zero for the length of a block."""
        self.calls, self._again, self.snapshots = {}, {}, 0
        self._on = True
        try:
            yield
        finally:
            self._on = False

    @property
    def figures(self) -> tuple[int, int, int, int]:
        """Calls, functions, files and snapshots."""
        return (
            sum(self.calls.values()),
            len(self.calls),
            len({self._ours[code] for code in self.calls}),
            self.snapshots,
        )

    def _event(self, frame: FrameType, event: str, _argument: object) -> None:
        if not self._on or event != "call":
            return
        code = frame.f_code
        if code is Fleet.__init__.__code__:
            self.snapshots += 1
        file = self._ours.get(code)
        if file is None:
            file = self._ours[code] = _file_of(code)
        if not file:
            return
        if code.co_flags & RESUMED:
            if id(frame) in self._again:
                return
            self._again[id(frame)] = frame  # held, or another one might get its number
        self.calls[code] = self.calls.get(code, 0) + 1


def _file_of(code: CodeType) -> str:
    """Return the file of a function of the program; nothing for any other code."""
    path = Path(code.co_filename)
    ours = any(path.is_relative_to(folder) for folder in PRODUCT) and not path.is_relative_to(SIMULATOR)
    return str(path) if ours and not code.co_name.startswith("<") else ""


async def least(entries: Entries, act: Callable[[], Awaitable[object]]) -> tuple[int, int, int, int]:
    """Return the least of each figure, after a time that is not counted."""
    await act()
    found = []
    for _ in range(TIMES):
        await asyncio.sleep(4 * SETTLE_S)
        with entries.counting():
            await act()
            await asyncio.sleep(SETTLE_S)
        found.append(entries.figures)
    calls, functions, files, snapshots = map(min, zip(*found, strict=True))
    return calls, functions, files, snapshots


async def measure(entries: Entries, it: Rig) -> dict[str, str]:
    """Return the figures of a put and of a poll."""
    await it.select()
    undo = True

    async def put() -> None:
        nonlocal undo
        undo = not undo
        await it.ok("Ecc:cobo0:Undo" if undo else "Ecc:cobo0:Describe")

    async def moved() -> None:
        there = it.module("cobo0").state
        operation, wanted = (
            ("Undo", State.IDLE) if there is State.DESCRIBED else ("Describe", State.DESCRIBED)
        )
        await it.fleet.call("cobo0", operation)
        await it.until(lambda: it.module("cobo0").state is wanted)

    return {
        "a put: calls, functions, files": " / ".join(map(str, (figures := await least(entries, put))[:3])),
        "a put: snapshots": str(figures[3]),
        "a changed poll: calls, functions, files": " / ".join(
            map(str, (figures := await least(entries, moved))[:3])
        ),
        "a changed poll: snapshots": str(figures[3]),
    }


async def live(entries: Entries, place: Path) -> dict[str, str]:
    """Return the figures of running IOCs, without and with the history."""
    found: dict[str, str] = {}
    patch = pytest.MonkeyPatch()
    sections: dict[str, dict[str, Any]] = {
        "": {},
        ", with the history": {f"plugins.{NAME}": f'data_dir = "{place / "db"}"'},
    }
    try:
        for what, section in sections.items():
            (place / f"ioc{bool(what)}").mkdir()
            plugins = given_plugins() if what else []
            async with rig(
                place / f"ioc{bool(what)}",
                patch,
                cobos=1,
                mutant=False,
                poll="",
                plugins=plugins,
                alone=False,
                **section,
            ) as it:
                if what:
                    await connected(it, 60.0)
                found |= {f"{name}{what}": text for name, text in (await measure(entries, it)).items()}
    finally:
        patch.undo()
    return found


def counted() -> dict[str, str]:
    """Return the figures that the files tell."""
    return {
        "hooks": str(sum(name.startswith("attpc_") for name in vars(Specification))),
        "classes that describe a run": str(len(run_classes())),
        "circles of imports": str(len(circles())),
        "lines of the program": str(lines("*.py", *PRODUCT) + lines("*.sql", *PRODUCT, ROOT / "db")),
        "lines of tests and benchmarks": str(lines("*.py", ROOT / "tests", ROOT / "benchmarks")),
        "lines of documents": str(lines("*.md", ROOT / "docs") + lines("README.md", ROOT)),
    }


def run_classes() -> list[str]:
    """Return the classes of the program that declare fields of a run."""
    found = []
    for path in (path for folder in PRODUCT for path in sorted(folder.rglob("*.py"))):
        if path.is_relative_to(SIMULATOR):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                fields = {
                    s.target.id
                    for s in node.body
                    if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)
                }
                if len(fields & RUN_FIELDS) >= 2:
                    found.append(f"{path.stem}.{node.name}")
    return found


def lines(pattern: str, *folders: Path) -> int:
    """Return the lines of the files of a pattern in these folders and below."""
    files = (
        p for folder in folders for p in (folder.rglob(pattern) if folder != ROOT else folder.glob(pattern))
    )
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files)


def with_column(page: str, name: str, figures: dict[str, str]) -> str:
    """Return the table of a page with one column put in place, or added."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page.partition(f"<!-- {MARK} begin -->")[2].partition("<!-- ")[0].split("\n")
        if line.startswith("|") and not line.startswith("|--")
    ]
    titles, old = (rows[0][1:], {row[0]: row[1:] for row in rows[1:]}) if rows else ([], {})
    if name not in titles:
        titles = [*titles, name]
    table = [["", *titles], ["---"] * (len(titles) + 1)]
    for what in old | figures:
        cells = dict(zip(titles, old.get(what, ()), strict=False)) | {name: figures.get(what, "")}
        table.append([what, *(cells.get(title, "") for title in titles)])
    return "\n".join(
        f"| {' | '.join(row)} |".replace("| --- ", "|---").replace("|--- |", "|---|") for row in table
    )


def main() -> None:
    """Print the figures, and write them into a page if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--column", default="now")
    args = parser.parse_args()
    entries = Entries()
    entries.install()
    with tempfile.TemporaryDirectory(prefix="attpc-house-") as name:
        # Any account may pass: the database is not a server of root's.
        os.chmod(name, 0o711)
        figures = asyncio.run(live(entries, Path(name)))
    sys.setprofile(None)
    figures |= counted()
    for what, text in figures.items():
        print(f"{what:60} {text}")
    print(f"classes that describe a run: {', '.join(run_classes())}")
    if args.page:
        old = args.page.read_text(encoding="utf-8")
        write_between_marks(args.page, MARK, with_column(old, args.column, figures))


if __name__ == "__main__":
    main()
