"""What can go wrong between the run history and its database.

DatabaseError                the base; its text is for operators and never holds a password
├── DatabaseSettingsError    the place of the database is given wrongly
├── DatabaseUnreachable      nothing answers there, or not in time
├── DatabaseRefused          a server answered and said no: password, role, database, TLS
├── DatabaseTooOld           the server is older than the oldest PostgreSQL that is supported
└── EmbeddedError            the plugin's own PostgreSQL server cannot be made, started or stopped
    └── EmbeddedBusy         another process of attpc-ioc is using its folder
"""

from __future__ import annotations

from attpc_ioc.errors import AttpcError


class DatabaseError(AttpcError):
    """Base of all that can go wrong with the database; its text is for operators."""


class DatabaseSettingsError(DatabaseError):
    """The place of the database is given wrongly; the text names the key or variable."""


class DatabaseUnreachable(DatabaseError):
    """No server answers at the place that is given, or not in time; trying again may help."""


class DatabaseRefused(DatabaseError):
    """A server answered and refused: password, role, database, number of connections, TLS."""


class DatabaseTooOld(DatabaseError):
    """The server is older than the oldest PostgreSQL that is supported."""


class EmbeddedError(DatabaseError):
    """The plugin's own PostgreSQL server cannot be made, started or stopped."""


class EmbeddedBusy(EmbeddedError):
    """Another process of attpc-ioc holds the folder of the embedded server."""
