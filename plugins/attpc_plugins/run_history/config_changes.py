"""What is different between the configuration files of two runs, as unified diffs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from attpc_plugins.run_history.store.model.history import ConfigUse, RunDetail

NO_TEXT = "the text is not in this database: the run was imported without it"

UNLIKE = (
    "one side is the file itself, the other the whole reply to Configure, which has a header and other files "
    "too: not every difference is a change"
)

MOST_EDITS = 300
"""Lines taken out and put in, up to which the shortest difference is looked for."""

CONTEXT = 3
"""Lines around each difference."""

Block = difflib.Match
"""Equal lines: where they begin in one text and in the other, and how many."""

Pair = tuple[ConfigUse | None, ConfigUse | None]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A file that is not the same in two runs.

    - `members`: the modules to which it applies. `before`, `now`: what it is in each run, in words.
    - `note`: what to know of the difference, or empty.
    - `texts`: what each run had; None where that is not on record.
    """

    members: tuple[str, ...]
    before: str
    now: str
    note: str
    texts: tuple[str, str] | None

    def lines(self) -> tuple[str, ...]:
        """Return the difference as lines of a unified diff, each with its newline; empty without texts."""
        return _unified(*self.texts, self.before, self.now) if self.texts is not None else ()


def changed_uses(one: RunDetail, other: RunDetail) -> dict[Pair, list[str]]:
    """Return each pair of different uses once, with the members that it applies to."""
    before = {(u.module, u.part): u for u in one.configs}
    after = {(u.module, u.part): u for u in other.configs}
    found: dict[tuple[object, ...], tuple[Pair, list[str]]] = {}
    for key in dict.fromkeys((*before, *after)):
        pair = before.get(key), after.get(key)
        marks = tuple(None if u is None else (u.part, u.name, u.sha256, u.fault) for u in pair)
        if marks[0] != marks[1]:
            found.setdefault(marks, (pair, []))[1].append(key[0])
    return dict(found.values())


def digests(changed: Iterable[Pair]) -> Iterator[str]:
    """Yield the SHA-256 of the texts that `config_changes` needs."""
    yield from (use.sha256 for pair in changed for use in pair if use and use.sha256)


def config_changes(
    changed: Mapping[Pair, list[str]], texts: Mapping[str, str], runs: tuple[str, str]
) -> Iterator[ConfigChange]:
    """Yield what is different; `texts` by their SHA-256, `runs` what to call the runs."""
    for pair, members in changed.items():
        before, now = (_label(use, run) for use, run in zip(pair, runs, strict=True))
        unlike = len({use.source for use in pair if use is not None and use.source}) > 1
        note, sides = UNLIKE if unlike else "", None
        if not all(use is None or use.fault for use in pair):
            old, new = (_text(use, texts) for use in pair)
            if old is None or new is None:
                note = NO_TEXT
            else:
                sides = old, new
        yield ConfigChange(tuple(members), before, now, note, sides)


def one_line(text: str) -> str:
    """Return a text with its white space as single blanks."""
    return " ".join(text.split())


def _label(use: ConfigUse | None, run: str) -> str:
    if use is None:
        return f"none in {run}"
    return f"{use.part}-{use.name}.xcfg in {run}" + (
        f" (not on record: {one_line(use.fault)})" * bool(use.fault)
    )


def _text(use: ConfigUse | None, texts: Mapping[str, str]) -> str | None:
    return texts.get(use.sha256) if use is not None and use.sha256 else ""


@lru_cache(maxsize=32)
def _unified(old: str, new: str, before: str, now: str) -> tuple[str, ...]:
    one, other = _lines(old), _lines(new)
    if all(line.endswith("\r\n") for line in (*one, *other)):
        one, other = ([f"{line[:-2]}\n" for line in side] for side in (one, other))
    return tuple(unified(one, other, before, now))


def _lines(text: str) -> list[str]:
    """Return the lines of a text with their newlines; form feeds and the like do not end a line."""
    return [line for line in re.split(r"(?<=\n)", text) if line]


# ---------------------------------------------------------------------- lines


def unified(one: list[str], other: list[str], before: str, now: str) -> Iterator[str]:
    """Yield a unified diff of lines.

    Configuration files repeat the same few lines thousands of times. `difflib` alone leaves such lines out of
    account, and takes most of a file for changed; so it comes last.
    """
    blocks = shortest(one, other, MOST_EDITS)
    if blocks is None and len(one) == len(other):
        blocks = [Block(n, n, 1) for n, (old, new) in enumerate(zip(one, other, strict=True)) if old == new]
    if blocks is None:
        matcher = difflib.SequenceMatcher(None, one, other)
    else:
        matcher = _Matched([*blocks, Block(len(one), len(other), 0)])
    groups = list(matcher.get_grouped_opcodes(CONTEXT)) if one != other else []
    if groups:
        yield f"--- {before}\n"
        yield f"+++ {now}\n"
    for group in groups:
        old, new = _range(group[0][1], group[-1][2]), _range(group[0][3], group[-1][4])
        yield f"@@ -{old} +{new} @@\n"
        for kind, i1, i2, j1, j2 in group:
            if kind == "equal":
                yield from _marked(" ", one[i1:i2])
            else:
                yield from _marked("-", one[i1:i2])
                yield from _marked("+", other[j1:j2])


class _Matched(difflib.SequenceMatcher[str]):
    """Of which it is known already what is the same."""

    def __init__(self, blocks: list[Block]) -> None:
        super().__init__()
        self._blocks = blocks

    def get_matching_blocks(self) -> list[Block]:
        return self._blocks


def _marked(mark: str, lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"


def _range(start: int, stop: int) -> str:
    length = stop - start
    first = start + 1 if length else start
    return f"{first}" if length == 1 else f"{first},{length}"


def shortest(one: list[str], other: list[str], most: int) -> list[Block] | None:
    """Return what is the same in the shortest difference; None if that has more than `most` edits.

    The algorithm of E. W. Myers, "An O(ND) difference algorithm and its variations" (1986): after each edit,
    a line taken out or put in, the furthest point on every diagonal.
    """
    rows, columns = len(one), len(other)
    furthest = {1: 0}
    before: list[dict[int, int]] = []
    for edits in range(min(most, rows + columns) + 1):
        before.append(dict(furthest))
        for diagonal in range(-edits, edits + 1, 2):
            row = _from(furthest, edits, diagonal)[0]
            while row < rows and row - diagonal < columns and one[row] == other[row - diagonal]:
                row += 1
            furthest[diagonal] = row
            if row >= rows and row - diagonal >= columns:
                return _same(before, row, row - diagonal)
    return None


def _from(furthest: dict[int, int], edits: int, diagonal: int) -> tuple[int, int]:
    """Return the row after the edit that leads to a diagonal, and the diagonal before it."""
    down = diagonal == -edits or (diagonal != edits and furthest[diagonal - 1] < furthest[diagonal + 1])
    return (furthest[diagonal + 1], diagonal + 1) if down else (furthest[diagonal - 1] + 1, diagonal - 1)


def _same(before: list[dict[int, int]], row: int, column: int) -> list[Block]:
    """Go back from the end to the beginning; returns the equal stretches in order."""
    found: list[Block] = []
    for edits in range(len(before) - 1, -1, -1):
        diagonal = row - column
        start, previous = _from(before[edits], edits, diagonal)
        if row > start:
            found.append(Block(start, start - diagonal, row - start))
        row = before[edits].get(previous, 0)
        column = row - previous
    return found[::-1]
