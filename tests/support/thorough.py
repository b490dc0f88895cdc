"""How much of what has no end is tried: `make test-thorough` tries more, for a night or a release."""

from __future__ import annotations

import os

THOROUGH = bool(os.environ.get("THOROUGH"))


def examples(usual: int, thorough: int) -> int:
    """Return how many are tried."""
    return thorough if THOROUGH else usual
