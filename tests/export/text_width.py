"""How wide a text is in the fonts of the screens, from the advance widths of Liberation's glyphs."""

from __future__ import annotations

from xml.etree import ElementTree as ET

# Thousandths of the font's size, for the characters from blank to tilde.
_REGULAR = (
    *(278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556),
    *(1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556),
    *(333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556),
    *(556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584),
)
_BOLD = (
    *(278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278),
    *(556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611),
    *(975, 722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833, 722, 778),
    *(667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556),
    *(333, 556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556, 278, 889, 611, 611),
    *(611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584),
)
_OTHER = 600
"""Of a character that is not in the tables, and of each one of the font with fixed width."""


def text_width(text: str, font: ET.Element) -> float:
    """Return the width in pixels of the widest line of a text, in the font of a `<font>` element."""
    table = _BOLD if font.get("style") == "BOLD" else _REGULAR
    fixed = font.get("family") == "Liberation Mono"

    def advance(char: str) -> int:
        place = ord(char) - ord(" ")
        return _OTHER if fixed or not 0 <= place < len(table) else table[place]

    size = float(font.get("size", "0"))
    return max((sum(map(advance, line)) * size / 1000 for line in text.splitlines()), default=0.0)
