"""What is different between two configuration files is shown, and nothing else."""

from __future__ import annotations

import re
import time

from attpc_plugins.run_history.config_changes import MOST_EDITS, shortest, unified
from hypothesis import given
from hypothesis import strategies as st

LINES = st.lists(st.sampled_from(["<a>\n", "</a>\n", "<b>\n"]), max_size=12)


def xcfg(channels: int, **changed: str) -> list[str]:
    """Lines as those files have them: the same few again and again; `c7="99"` is the threshold of one."""
    lines: list[str] = []
    for number in range(channels):
        value = changed.get(f"c{number}", str(number % 4))
        lines += ["<Instance>\n", f"<Threshold>{value}</Threshold>\n", "<Gain>1pC</Gain>\n", "</Instance>\n"]
    return lines


def longest(one: list[str], other: list[str]) -> int:
    """The most lines that both can have in common, by a table."""
    above = [0] * (len(other) + 1)
    for line in one:
        row = [0]
        for column, its in enumerate(other):
            row.append(above[column] + 1 if line == its else max(row[-1], above[column + 1]))
        above = row
    return above[-1]


@given(LINES, LINES)
def test_the_shortest_difference_is_found(one, other):
    blocks = shortest(one, other, 100)
    assert blocks is not None
    row = column = 0
    for block in blocks:
        assert block.a >= row
        assert block.b >= column
        assert one[block.a : block.a + block.size] == other[block.b : block.b + block.size] != []
        row, column = block.a + block.size, block.b + block.size
    assert row <= len(one)
    assert column <= len(other)
    assert sum(block.size for block in blocks) == longest(one, other)


@given(LINES, LINES)
def test_a_diff_makes_one_text_of_the_other(one, other):
    lines = list(unified(one, other, "before", "now"))
    assert bool(lines) == (one != other)
    made, at = [], 0
    for line in lines[2:]:
        if line.startswith("@@"):
            first, count = re.match(r"@@ -(\d+)(?:,(\d+))? ", line).groups()  # type: ignore[union-attr]
            begin = int(first) - (count != "0")
            made, at = made + one[at:begin], begin
        elif line[0] == "+":
            made.append(line[1:])
        else:
            assert one[at] == line[1:]
            made, at = made + [line[1:]] * (line[0] == " "), at + 1
    assert made + one[at:] == other


def test_files_that_repeat_themselves():
    began = time.monotonic()
    one, other = xcfg(9000), xcfg(9000, c17="99", c8000="99")
    other.insert(400, "<Comment>new</Comment>\n")
    lines = list(unified(one, other, "before", "now"))
    assert [line for line in lines[2:] if line[0] in "-+"] == [
        "-<Threshold>1</Threshold>\n",
        "+<Threshold>99</Threshold>\n",
        "+<Comment>new</Comment>\n",
        "-<Threshold>0</Threshold>\n",
        "+<Threshold>99</Threshold>\n",
    ]
    # Very many changes: values in their places.
    other = xcfg(9000, **{f"c{number}": "50" for number in range(MOST_EDITS)})
    lines = list(unified(one, other, "before", "now"))
    assert sum(line.startswith("-") for line in lines[2:]) == MOST_EDITS
    assert time.monotonic() - began < 20.0


def test_the_last_line_without_a_newline_is_said():
    assert list(unified(["a\n", "b"], ["a\n", "c\n"], "before", "now")) == [
        "--- before\n",
        "+++ now\n",
        "@@ -1,2 +1,2 @@\n",
        " a\n",
        "-b\n\\ No newline at end of file\n",
        "+c\n",
    ]
