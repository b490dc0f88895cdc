"""A PVAccess server: the process variables of another server, over a second protocol.

It builds on p4p, Python's binding of pvxs, and does not know what its PVs mean. A `Record` has the value, the
alarm and the properties of one PV; `Form` says which normative type carries it; a `Table` has many values of
one moment, and an `Interface` names what a device has. `PVAServer` serves them and passes every put to one
callback. See `server.py`.
"""

from attpc_ioc.pva.record import Client, Column, Form, Interface, Put, Record, Spec, Table, TableState
from attpc_ioc.pva.server import Connection, NotInstalled, PvaError, PVAServer

__all__ = [
    "Client",
    "Column",
    "Connection",
    "Form",
    "Interface",
    "NotInstalled",
    "PVAServer",
    "Put",
    "PvaError",
    "Record",
    "Spec",
    "Table",
    "TableState",
]
