"""A Channel Access server: process variables for many clients, none of which can disturb the others.

It builds on caproto's protocol definitions and does not know what its PVs mean. `PVSpec` describes a PV,
`PV.post` gives it a value, `CAServer` serves it and passes every put to one callback. See `server.py`.
"""

from attpc_ioc.ioc.ca.client import Client
from attpc_ioc.ioc.ca.decode import Unacceptable, accept
from attpc_ioc.ioc.ca.protocol import ChannelType
from attpc_ioc.ioc.ca.pv import PV
from attpc_ioc.ioc.ca.server import NO_ACCESS, CAServer, PutRejected, ServerLimits, ServerStats
from attpc_ioc.ioc.ca.spec import STATUS_LABELS, PVSpec, Value

__all__ = [
    "NO_ACCESS",
    "PV",
    "STATUS_LABELS",
    "CAServer",
    "ChannelType",
    "Client",
    "PVSpec",
    "PutRejected",
    "ServerLimits",
    "ServerStats",
    "Unacceptable",
    "Value",
    "accept",
]
