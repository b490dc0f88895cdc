"""Data routers: watches the hosts that record the data, and brings every run's files to their place."""

from .plugin import DataRouters as plugin

__all__ = ["plugin"]
