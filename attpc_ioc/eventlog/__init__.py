"""The state database: every event once, and what the IOC keeps over restarts."""

from .kept import Kept
from .log import EventLog

__all__ = ["EventLog", "Kept"]
