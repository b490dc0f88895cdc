"""The look of the screens: colours, fonts and distances.

Calm greys, because a shift sees them for eight hours: a strong colour always has a meaning. What must be
readable from across the room (state, number and duration of the run) is large; names of values are small and
grey.
"""

from __future__ import annotations

from .bob import Color, Font

PAGE = Color(219, 224, 229)
CARD = Color(241, 243, 245)
BAR = Color(47, 59, 72)
"""Of the bar with the screen's title."""
BAR_BUTTON = Color(74, 89, 104)
BAR_HERE = Color(120, 137, 153)
"""Of the button of the screen that is shown."""
WHITE = Color(255, 255, 255)
LINE = Color(203, 209, 215)
STRIPE = Color(232, 236, 239)
TEXT = Color(27, 37, 47)
MUTED = Color(86, 98, 110)
FIELD = Color(250, 251, 252)
"""Of displayed texts."""
ENTRY = Color(255, 255, 255)
"""Of entry fields."""
ENTRY_LINE = Color(150, 163, 176)
BUTTON = Color(210, 217, 224)
START = Color(45, 102, 148)
STOP = Color(140, 61, 55)

MINOR = Color(250, 205, 92)
MAJOR = Color(236, 105, 94)
INVALID = Color(216, 143, 216)
NOTICE = Color(255, 243, 205)
"""For rejected entries, which are not an alarm."""
QUIET = Color(214, 220, 226)
"""Of a normal state."""
READY = Color(158, 193, 224)
RUNNING = Color(140, 199, 152)

LINES = (
    Color(45, 102, 148),
    Color(201, 122, 40),
    Color(66, 138, 92),
    Color(140, 61, 120),
    Color(110, 110, 40),
    Color(40, 140, 150),
    Color(170, 75, 70),
    Color(95, 85, 160),
    Color(125, 95, 60),
    Color(80, 100, 115),
    Color(27, 37, 47),
    Color(224, 160, 70),
)

HUGE = Font(38, "BOLD")
LARGE = Font(26, "BOLD")
BAR_FONT = Font(24, "BOLD")
TITLE = Font(17, "BOLD")
"""Of a card."""
STRONG = Font(18, "BOLD")
NORMAL = Font(17)
BUTTON_FONT = Font(16)
BIG_BUTTON = Font(24, "BOLD")
SMALL = Font(15)
"""Names of values, headings of columns."""
MONO = Font(16, family="Liberation Mono")

WIDTH, HEIGHT = 1890, 900
"""Pixels of a large screen: on a full-HD monitor Phoebus's menu, tool bar, tabs and status bar leave 1895 by
909, and a display that is a pixel larger gets scroll bars."""
EDGE = 8
"""Between cards, and from the edge of the screen."""
PAD = 12
"""From the edge of a card to its contents."""
BAR_HEIGHT = 46
TITLE_HEIGHT = 34
"""Of a card's title and the space below it."""
ROW = 30
"""Of a row of a list."""
SCROLL_BAR = 18
"""Width beside the rows of a list that scrolls: Phoebus draws the scroll bar over the content."""
