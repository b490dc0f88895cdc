"""A detector for Bluesky, over PVAccess: `pip install attpc-ioc[bluesky]` where the plans run.

It knows nothing of the IOC but its PVs, and the IOC does not import it.
"""

from .detector import AttpcDetector
from .plans import run_during, run_for

__all__ = ["AttpcDetector", "run_during", "run_for"]
