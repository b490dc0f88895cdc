"""caproto's protocol definitions: all of caproto that this package uses.

caproto imports numpy where it is installed, for its own arrays. Nothing here needs that, and it would be half
of the time from the start of the process to the first answer and a third of the memory. So numpy is kept out
of sight while caproto is imported, and caproto does what it does where numpy is not installed. Whoever has
imported numpy or caproto before gets caproto with numpy, which serves as well.
"""

from __future__ import annotations

import sys

_hidden = "numpy" not in sys.modules and "caproto" not in sys.modules
if _hidden:
    sys.modules["numpy"] = None  # type: ignore[assignment]  # the import system's own way to say: not there
try:
    import caproto
    from caproto import CAStatus, ChannelType
finally:
    if _hidden:
        del sys.modules["numpy"]

__all__ = ["CAStatus", "ChannelType", "caproto"]
