"""The exceptions of attpc-ioc.

AttpcError
├── SettingsError          a settings file is wrong: every fault with file, key and what would be right
│   └── AccessFileError    an access security file is wrong; see `attpc_ioc.access`
├── StateDirError          the state directory cannot be read or written
│   ├── StateDirBusy       another process uses it
│   └── NotRunning         no IOC runs with it
├── Refused                a put or command is refused; nothing was sent and nothing changed
├── PluginError            a plugin cannot be loaded, or one of its hooks failed
└── EccError               a call to an ECC server went wrong
    ├── EccUnreachable     no connection; the request was not accepted
    ├── EccTimeout         no answer within the limit
    ├── EccBrokenReply     empty, not XML, or an HTTP 500 fault: the operation may have run
    ├── EccStale           answers come, but none young enough to send something on it
    └── EccRefused         the server answered with a code other than 0
        └── EccBusy        ... because its state machine is busy
"""

from __future__ import annotations


def system_reason(error: Exception) -> str:
    """Return why it failed in the operating system's words, or else in the exception's."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


class AttpcError(Exception):
    """Base of all exceptions that this product raises on purpose; its text is for operators."""


class SettingsError(AttpcError):
    """A file of the settings is wrong.

    `faults` has one line for each fault, with its key or place and what would be right.
    """

    def __init__(self, file: str, faults: list[str]) -> None:
        self.file = file
        self.faults = faults
        super().__init__("\n".join(f"{file}: {fault}" for fault in faults))


class StateDirError(AttpcError):
    """The state directory, or a file in it, cannot be read or written."""


class StateDirBusy(StateDirError):
    """Another process, such as an IOC, uses the state directory."""


class NotRunning(StateDirError):
    """No IOC that could be asked runs with the state directory."""


class Refused(AttpcError):
    """A put or a command is refused: nothing was sent and nothing changed."""


class RecordAway(AttpcError):
    """The record of runs cannot be read or changed at present."""


class PutFailed(AttpcError):
    """A put was refused, or the command that it gave has not ended well.

    - `reasons`: each reason by itself.
    - `refused`: nothing was sent and nothing changed.
    - `no_access`: it was refused because this client may not write the PV.
    - `bad_value`: it was refused because the PV cannot have this value, whatever happens meanwhile.
    """

    def __init__(
        self,
        text: str,
        reasons: tuple[str, ...],
        *,
        refused: bool,
        no_access: bool = False,
        bad_value: bool = False,
    ) -> None:
        super().__init__(text)
        self.reasons = reasons
        self.refused = refused
        self.no_access = no_access
        self.bad_value = bad_value


class PluginError(AttpcError):
    """A plugin cannot be loaded, or one of its hooks failed."""


class EccError(AttpcError):
    """A call to an ECC server went wrong."""


class EccUnreachable(EccError):
    """No connection could be made, so the request was not accepted."""


class EccTimeout(EccError):
    """The server did not answer within the limit; the request may still run."""


class EccBrokenReply(EccError):
    """The reply was empty, not XML or a SOAP fault; the operation may have run."""


class EccStale(EccError):
    """No answer was young enough, within the limit, to send an operation on it; nothing was sent."""


class EccRefused(EccError):
    """The server answered with a code other than 0."""

    def __init__(self, code: int, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"code {code}: {message}" if message else f"code {code}")


class EccBusy(EccRefused):
    """The server refused because its state machine is busy."""
