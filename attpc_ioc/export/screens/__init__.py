"""Screens for CS-Studio/Phoebus, made from the PV table."""

from .files import screens, write_screens

__all__ = ["screens", "write_screens"]
