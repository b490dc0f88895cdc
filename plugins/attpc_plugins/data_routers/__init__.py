"""Data routers: watches the hosts that record the data, and moves every run's files to the run's folder."""

from .plugin import DataRouters as plugin

__all__ = ["plugin"]
