"""The run history: every run, its conditions and every put, kept in PostgreSQL."""

from .plugin import RunHistory as plugin

__all__ = ["plugin"]
