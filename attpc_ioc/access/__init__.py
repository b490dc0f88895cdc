"""Access security: who may read and write which PV, by the rules of an EPICS access security file."""

from .file import read_rules
from .keeper import AccessKeeper, FileStatus
from .parse import AccessFileError, parse_rules
from .rules import Right
from .summary import access_summary

__all__ = [
    "AccessFileError",
    "AccessKeeper",
    "FileStatus",
    "Right",
    "access_summary",
    "parse_rules",
    "read_rules",
]
