"""The exceptions of the run history's database.

DatabaseError                the base; its text is for operators and never contains a password
├── DatabaseSettingsError    the settings or variables that name the database are wrong
├── DatabaseUnreachable      no server answers, or not in time
├── DatabaseRefused          a server answered and refused: password, role, database, TLS
├── DatabaseTooOld           the server is older than the oldest supported PostgreSQL
├── EmbeddedError            the plugin's own PostgreSQL server cannot be made, started or stopped
│   └── EmbeddedBusy         another process of attpc-ioc is using its folder
└── StoreError               a statement failed, see `store.errors`
    └── SchemaError          the schema is not what this program needs
        └── SchemaTooNew     ... because a newer program changed it
"""

from __future__ import annotations

from attpc_ioc.errors import AttpcError
from attpc_ioc.model import outside

SAID_MOST = 400
"""Characters of a server's message that are shown, logged and kept."""


class DatabaseError(AttpcError):
    """Base of all exceptions of the database; its text is for operators."""


class DatabaseSettingsError(DatabaseError):
    """The settings or variables that name the database are wrong; the text names the key or variable."""


class DatabaseUnreachable(DatabaseError):
    """No server answers at the given address, or not in time; trying again may help."""


class DatabaseRefused(DatabaseError):
    """A server answered and refused: password, role, database, number of connections, TLS."""


class DatabaseTooOld(DatabaseError):
    """The server is older than the oldest supported PostgreSQL."""


class EmbeddedError(DatabaseError):
    """The plugin's own PostgreSQL server cannot be made, started or stopped."""


class EmbeddedBusy(EmbeddedError):
    """Another process of attpc-ioc holds the folder of the embedded server."""


class StoreError(DatabaseError):
    """Base of the store's exceptions; its text is for operators."""


class SchemaError(StoreError):
    """The schema of the database is not what this program needs."""


class SchemaTooNew(SchemaError):
    """A newer program has changed the schema."""


def first_line(error: BaseException) -> str:
    """Return the first line of a server's or asyncpg's message, cut and printable; else the error's type."""
    line = next(iter(str(error)[: 2 * SAID_MOST].strip().splitlines()), "")
    return outside.text(line, SAID_MOST) or type(error).__name__
