"""The page for browsers and the HTTP API: the run on a phone, on a wall, and for programs."""

from .plugin import Web as plugin

__all__ = ["plugin"]
