"""How busy the machine is, for tests that judge how long something takes."""

from __future__ import annotations

import time

SPIN_S = 0.05


def busy() -> float:
    """Return how many times longer than on an idle machine this process works now: 1.0 on an idle one.

    Works for `SPIN_S` of processor time, and holds the event loop meanwhile.
    """
    began_s, used_s = time.monotonic(), time.thread_time()
    while time.thread_time() - used_s < SPIN_S:
        pass
    return max(1.0, (time.monotonic() - began_s) / SPIN_S)
