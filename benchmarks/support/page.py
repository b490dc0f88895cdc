"""Results in pages of the documentation: between two marks, with what they were measured on."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import psutil


def command(module: str) -> str:
    """Return the command that runs this benchmark, without the page that the results go to."""
    arguments = sys.argv[1:]
    if "--page" in arguments:
        at = arguments.index("--page")
        del arguments[at : at + 2]
    return " ".join(("python -m", module, *arguments))


def about(command: str, *more: str) -> str:
    """Return the command, machine and versions of a run, in Markdown; `more` are further packages."""
    names = ("caproto", "softioc", "epicscorelibs", *more)
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    memory_gb = psutil.virtual_memory().total / 1e9
    load = os.getloadavg()[0]
    return (
        f"`{command}` on {processor()}, {os.cpu_count()} cores, {memory_gb:.0f} GB, load average {load:.1f} "
        f"at the end; {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"{packages}."
    )


def processor() -> str:
    """Return the name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a CPU")


def write_between_marks(page: Path, name: str, text: str) -> None:
    """Replace what is between `<!-- NAME begin -->` and `<!-- NAME end -->`.

    Raises ValueError where the page has no such marks.
    """
    begin, end = f"<!-- {name} begin -->", f"<!-- {name} end -->"
    old = page.read_text(encoding="utf-8")
    head, mark, rest = old.partition(begin)
    _, mark_too, tail = rest.partition(end)
    if not mark or not mark_too:
        raise ValueError(f"{page} has no place for {name}")
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
