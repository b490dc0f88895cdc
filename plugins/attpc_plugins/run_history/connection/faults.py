"""Why no connection to a database could be made, in words that name the key and what would be right."""

from __future__ import annotations

import errno
import ssl
from dataclasses import dataclass
from socket import gaierror

import asyncpg

from attpc_plugins.run_history.errors import (
    DatabaseError,
    DatabaseRefused,
    DatabaseSettingsError,
    DatabaseUnreachable,
    first_line,
)

from .dsn import Dsn
from .poolers import advice
from .wire import reason_in

FAULTS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    ValueError,
)
"""What asyncpg raises when a connection cannot be made; `TimeoutError` is an `OSError`."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the connection was to lead, and the key or the variables that said so."""

    key: str
    dsn: Dsn


def explain(error: BaseException, target: Target, limit_s: float) -> DatabaseError:
    """Return the exception to raise for what a connection failed with; no password is in its text."""
    made, text = _explain(error, target, limit_s)
    text = f"database {target.dsn.where} ({target.key}): {text}"
    if target.dsn.password:
        text = text.replace(target.dsn.password, "***")
    return made(text)


def _explain(error: BaseException, target: Target, limit_s: float) -> tuple[type[DatabaseError], str]:
    if reason := reason_in(error):
        return DatabaseUnreachable, reason
    if isinstance(error, asyncpg.PostgresError):
        if told := advice(error):
            kind = DatabaseUnreachable if told.passing else DatabaseRefused
            return kind, f"{told.text} (it says: {_last_words(error)})"
        return _refused(error, target)
    if isinstance(error, asyncpg.exceptions.TargetServerAttributeNotMatched):
        return DatabaseUnreachable, "no server there is of the kind that target_session_attrs asks for"
    if getattr(error, "errno", None) == errno.ENOENT and not any(h.startswith("/") for h in target.dsn.hosts):
        return DatabaseSettingsError, (
            "TLS: the file that sslrootcert=, sslcert= or sslkey= names is not there; is its path right, and "
            "can the user that this runs as read it?"
        )
    if isinstance(error, (ssl.SSLError, ssl.CertificateError)):
        reason = (
            getattr(error, "verify_message", "") or getattr(error, "reason", "") or "the handshake failed"
        )
        return DatabaseRefused, (
            f"TLS: {reason}; sslrootcert= names the file of the authority that signed the server's "
            "certificate, and with sslmode=verify-full the host must be the certificate's"
        )
    if isinstance(error, TimeoutError):
        there = "is the host up, and does a firewall let its port pass?"
        here = "the server hangs, or this computer is overloaded; it is tried again"
        return DatabaseUnreachable, f"no answer within {limit_s:g} s; {here if _is_here(target) else there}"
    if isinstance(error, (asyncpg.InterfaceError, ValueError)):
        return DatabaseSettingsError, f"{first_line(error)}; correct it in {target.key}"
    if isinstance(error, (asyncpg.InternalClientError, EOFError)):
        return DatabaseUnreachable, "what answers there is no PostgreSQL server; are host and port right?"
    return DatabaseUnreachable, _unreachable(error)


def _is_here(target: Target) -> bool:
    """Tell whether the database is reached by a socket of this computer, with no host or port in the way."""
    return bool(target.dsn.hosts) and all(host.startswith("/") for host in target.dsn.hosts)


def _refused(error: asyncpg.PostgresError, target: Target) -> tuple[type[DatabaseError], str]:
    said, user, name = first_line(error), target.dsn.user or "ROLE", target.dsn.database or "DATABASE"
    match error:
        case asyncpg.InvalidPasswordError():
            lead = "the password is wrong" if target.dsn.password else "a password is needed"
            text = f"{lead}, or the role is; give it by PGPASSWORD, by ~/.pgpass or in the URL"
        case asyncpg.InvalidAuthorizationSpecificationError() if "does not exist" in said:
            text = f"there is no such role; on the server: CREATE ROLE {user} LOGIN PASSWORD '...'"
        case asyncpg.InvalidAuthorizationSpecificationError():
            text = "the server lets us not in this way; see its pg_hba.conf for this user, host and TLS"
        case asyncpg.InvalidCatalogNameError():
            text = f"there is no such database; on the server: CREATE DATABASE {name} OWNER {user}"
        case asyncpg.InsufficientPrivilegeError():
            text = f"the role may not do this; on the server: GRANT ALL ON DATABASE {name} TO {user}"
        case asyncpg.TooManyConnectionsError():
            text = "the server has no connection left; raise its max_connections, or end what is idle"
        case asyncpg.CannotConnectNowError():
            return DatabaseUnreachable, f"{said}; it is tried again"
        case asyncpg.ConnectionDoesNotExistError():
            closed = "the connection was closed before the server answered as PostgreSQL does"
            there = "are host and port right, and is it up?"
            here = "it is ending or starting, and is tried again"
            return DatabaseUnreachable, f"{closed}; {here if _is_here(target) else there}"
        case asyncpg.UndefinedObjectError():
            text = "a key in the URL is neither one of the connection nor a setting of the server; correct it"
        case _:
            text = "the server refuses"
    return DatabaseRefused, f"{text} (it says: {said})"


def _unreachable(error: BaseException) -> str:
    code, text = getattr(error, "errno", None), str(error)
    if isinstance(error, gaierror):
        return "no such host is known here; is its name right, and does DNS work?"
    if "rejected SSL upgrade" in text or "SSL exchange" in text:
        return (
            "the server takes no TLS, or is no PostgreSQL server; are host and port right? Where the network "
            "is trusted, sslmode=prefer goes without"
        )
    if code == errno.ENOENT:
        return "there is no socket in that folder; is the server running, and is this its folder?"
    if code == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in text:
        return "nothing listens there; is the server running, and are host and port right?"
    if code == errno.EACCES:
        return "this user may not use the socket"
    if isinstance(error, ConnectionError):
        return "the connection was closed from the other side; is it a PostgreSQL server, and is it up?"
    return str(getattr(error, "strerror", "") or text or type(error).__name__)


def _last_words(error: BaseException) -> str:
    """Return what a server said before it closed the connection, without what asyncpg puts before it."""
    return first_line(error).rpartition("in the middle of operation: ")[2]
