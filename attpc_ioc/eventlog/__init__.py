"""The state database: every event once, and what the IOC keeps across restarts."""

from .kept import Kept
from .log import RECORD_LIMIT_S, EventLog

__all__ = ["RECORD_LIMIT_S", "EventLog", "Kept"]
