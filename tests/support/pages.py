"""What is in the documents: files that a reader is to write, and commands that a reader is to give."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_MARKED = re.compile(r"^<!-- (file|run): ([^\n]*?) -->\n+```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block with a mark before it: `<!-- file: NAME -->` or `<!-- run: NAME -->`."""

    kind: str
    name: str
    language: str
    text: str


def blocks(page: str, kind: str) -> list[Block]:
    """The marked blocks of a page, by its path in the project."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [block for found in _MARKED.findall(text) if (block := Block(*found)).kind == kind]


def files(page: str) -> dict[str, str]:
    """The files that a page has the reader write, by name."""
    return {block.name: block.text for block in blocks(page, "file")}


def commands(page: str, name: str) -> list[str]:
    """The lines of a page's block of commands; of a `console` block those behind a `$`."""
    (block,) = (block for block in blocks(page, "run") if block.name == name)
    lines = block.text.splitlines()
    if block.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def dialogue(page: str) -> list[tuple[str, list[str]]]:
    """The commands of all of a page's blocks `run: demo`, each with the lines that it is said to print."""
    said: list[tuple[str, list[str]]] = []
    for block in blocks(page, "run"):
        for line in block.text.splitlines():
            if block.language == "sh" or line.startswith("$ "):
                said.append((line.removeprefix("$ "), []))
            elif line.strip():
                said[-1][1].append(line)
    return said
