"""Announces records to the recceivers of ChannelFinder (recsync protocol); knows nothing of the AT-TPC."""

from .announcements import Announcements, bound_socket
from .client import RecSyncClient, State, Times, Uploads
from .messages import ANNOUNCE_PORT, Announcement, ProtocolError, RecordInfo

__all__ = [
    "ANNOUNCE_PORT",
    "Announcement",
    "Announcements",
    "ProtocolError",
    "RecSyncClient",
    "RecordInfo",
    "State",
    "Times",
    "Uploads",
    "bound_socket",
]
