"""caproto's protocol definitions: the only part of caproto that this package uses.

caproto imports numpy, if installed, for its own arrays. Nothing here needs it, and it would take half of the
time from process start to first answer and a third of the memory. So numpy is hidden while caproto is
imported. If numpy or caproto was imported before, caproto uses numpy, which works too.
"""

from __future__ import annotations

import sys

_hidden = "numpy" not in sys.modules and "caproto" not in sys.modules
if _hidden:
    sys.modules["numpy"] = None  # type: ignore[assignment]  # the import system treats it as not installed
try:
    import caproto
    from caproto import CAStatus, ChannelType
finally:
    if _hidden:
        del sys.modules["numpy"]

__all__ = ["CAStatus", "ChannelType", "caproto"]
