"""Screens for CS-Studio/Phoebus, made from the PV table."""

from .files import check_screens, screens, write_screens

__all__ = ["check_screens", "screens", "write_screens"]
