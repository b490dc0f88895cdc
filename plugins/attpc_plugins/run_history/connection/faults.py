"""Explains why a database cannot be reached, with the key to correct and what would be right."""

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
"""Exceptions of asyncpg when a connection fails; `TimeoutError` is an `OSError`."""


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a connection, and the settings key or variables that named it."""

    key: str
    dsn: Dsn


def explain(error: BaseException, target: Target, limit_s: float) -> DatabaseError:
    """Return the exception to raise for a failed connection; its text contains no password."""
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
        return DatabaseUnreachable, "no server there matches target_session_attrs"
    if getattr(error, "errno", None) == errno.ENOENT and not any(h.startswith("/") for h in target.dsn.hosts):
        return DatabaseSettingsError, (
            "TLS: the file named by sslrootcert=, sslcert= or sslkey= does not exist; is its path right, and "
            "can the user of this process read it?"
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
        here = "the server hangs, or this computer is overloaded; the IOC tries again"
        return DatabaseUnreachable, f"no answer within {limit_s:g} s; {here if _is_here(target) else there}"
    if isinstance(error, (asyncpg.InterfaceError, ValueError)):
        return DatabaseSettingsError, f"{first_line(error)}; correct it in {target.key}"
    if isinstance(error, (asyncpg.InternalClientError, EOFError)):
        return DatabaseUnreachable, "what answers there is not a PostgreSQL server; are host and port right?"
    return DatabaseUnreachable, _unreachable(error)


def _is_here(target: Target) -> bool:
    """Return whether the database is reached by a socket of this computer."""
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
            text = "the server rejects this login; see its pg_hba.conf for this user, host and TLS"
        case asyncpg.InvalidCatalogNameError():
            text = f"there is no such database; on the server: CREATE DATABASE {name} OWNER {user}"
        case asyncpg.InsufficientPrivilegeError():
            text = f"the role may not do this; on the server: GRANT ALL ON DATABASE {name} TO {user}"
        case asyncpg.TooManyConnectionsError():
            text = "the server has no connection left; raise its max_connections, or close idle ones"
        case asyncpg.CannotConnectNowError():
            return DatabaseUnreachable, f"{said}; the IOC tries again"
        case asyncpg.ConnectionDoesNotExistError():
            closed = "the connection was closed before an answer of PostgreSQL"
            there = "are host and port right, and is it up?"
            here = "it is ending or starting; the IOC tries again"
            return DatabaseUnreachable, f"{closed}; {here if _is_here(target) else there}"
        case asyncpg.UndefinedObjectError():
            text = "a key in the URL is neither a connection key nor a setting of the server; correct it"
        case _:
            text = "the server refuses"
    return DatabaseRefused, f"{text} (it says: {said})"


def _unreachable(error: BaseException) -> str:
    code, text = getattr(error, "errno", None), str(error)
    if isinstance(error, gaierror):
        return "the host name is not known; is it right, and does DNS work?"
    if "rejected SSL upgrade" in text or "SSL exchange" in text:
        return (
            "the server does not accept TLS, or is not a PostgreSQL server; are host and port right? If the "
            "network is trusted, sslmode=prefer works without"
        )
    if code == errno.ENOENT:
        return "there is no socket in that folder; is the server running, and is this its folder?"
    if code == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in text:
        return "nothing listens there; is the server running, and are host and port right?"
    if code == errno.EACCES:
        return "this user may not use the socket"
    if isinstance(error, ConnectionError):
        return "the other side closed the connection; is it a PostgreSQL server, and is it up?"
    return str(getattr(error, "strerror", "") or text or type(error).__name__)


def _last_words(error: BaseException) -> str:
    """Return the server's last message before it closed the connection, without asyncpg's prefix."""
    return first_line(error).rpartition("in the middle of operation: ")[2]
