"""Checks, parses and displays the URL of a PostgreSQL server.

No password leaves this module except as `Dsn.password`: no message quotes a URL, since a password with a
character that has a meaning in URLs can appear in any part of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

SCHEMES = ("postgresql", "postgres")
PORT = 5432
EXAMPLE = "postgresql://USER@HOST:5432/DATABASE"

NOT_TAKEN = (
    *("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
    *("channel_binding", "gssencmode", "hostaddr", "load_balance_hosts", "require_auth", "sslsni"),
    *("fallback_application_name", "tcp_user_timeout", "replication", "requirepeer", "client_encoding"),
)
"""Keys that libpq accepts in a URL but asyncpg would pass to the server as settings, which it refuses."""

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


@dataclass(frozen=True, slots=True)
class Dsn:
    """The parts of a URL; missing ones come from the `PG*` variables, as in PostgreSQL.

    `hosts` are `host:port` or socket folders, for people.
    """

    hosts: tuple[str, ...]
    user: str
    database: str
    password: str = field(repr=False)
    public: str
    """The URL without its password, for psql and pg_dump."""

    @property
    def where(self) -> str:
        """The location for people: `attpc at db.lab:5432, user ioc`."""
        user = f", user {self.user}" if self.user else ""
        return f"{self.database or 'the default database'} at {' or '.join(self.hosts)}{user}"


def faults(text: str) -> list[str]:
    """Return what is wrong with a URL, without quoting it; empty if nothing is."""
    if not text.strip():
        return ["is empty; it is like " + EXAMPLE]
    if "://" not in text:
        kind = "has keys and values of libpq" if "=" in text else "is not a URL"
        return [f"{kind}; it is like {EXAMPLE}"]
    try:
        parts = urlsplit(text)
        query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
    except ValueError:
        return [f"is not a readable URL; it is like {EXAMPLE}. {_ESCAPES}"]
    if parts.scheme not in SCHEMES:
        return [f"begins with neither postgresql:// nor postgres://; it is like {EXAMPLE}"]
    found = []
    if parts.netloc.count("@") > 1 or parts.fragment or "#" in text:
        found.append(f"has an unexpected @ or #. {_ESCAPES}")
    elif not _ports_ok(_host_part(parts)):
        found.append(f"has a port that is not a number from 1 to 65535. {_ESCAPES}")
    elif "/" in parts.path[1:]:
        found.append(f"has a / in its database's name. {_ESCAPES}")
    values = dict(query)
    found += [f"has {key}=, which is not supported here; leave it out" for key in NOT_TAKEN if key in values]
    if (mode := values.get("sslmode")) is not None and mode not in SSL_MODES:
        found.append(f"has an unknown sslmode; it is one of {', '.join(SSL_MODES)}")
    if "port" in values and not _ports_ok("," + ",".join(f"x:{p}" for p in values["port"].split(","))):
        found.append("has a port= that is not a number from 1 to 65535")
    if not found and not (
        _host_part(parts) or values.get("host") or values.get("service") or _from_environment()
    ):
        found.append(f"names no host; it is like {EXAMPLE}")
    return found


def read(text: str) -> Dsn:
    """Return the parts of a URL without `faults`, or only those of the `PG*` variables for an empty text."""
    parts = urlsplit(text or "postgresql://")
    query = dict(parse_qsl(parts.query)) if parts.query else {}
    auth, _, _ = parts.netloc.rpartition("@")
    user, _, password = auth.partition(":")
    if service := query.get("service") or (os.environ.get("PGSERVICE", "") if not text else ""):
        hosts: tuple[str, ...] = (f"the service {service}",)
    else:
        named = _host_part(parts) or query.get("host") or os.environ.get("PGHOST", "") or "localhost"
        port = query.get("port") or os.environ.get("PGPORT", "") or str(PORT)
        hosts = tuple(_shown(host, port) for host in named.split(","))
    user = unquote(user) or query.get("user") or os.environ.get("PGUSER", "")
    database = unquote(parts.path[1:]) or query.get("dbname") or query.get("database")
    return Dsn(
        hosts=hosts,
        user=user,
        database=database or os.environ.get("PGDATABASE", "") or user,
        password=unquote(password) or query.get("password", "") or os.environ.get("PGPASSWORD", ""),
        public=_public(parts, query) if text else _public_of_environment(),
    )


_ESCAPES = (
    "In a user's name or a password write @ as %40, : as %3A, / as %2F, # as %23, ? as %3F, % as %25; "
    "better, leave the password to PGPASSWORD or ~/.pgpass"
)


def _from_environment() -> bool:
    return any(os.environ.get(name) for name in ("PGHOST", "PGSERVICE"))


def _host_part(parts: SplitResult) -> str:
    return unquote(parts.netloc.rpartition("@")[2])


def _ports_ok(hosts: str) -> bool:
    for host in hosts.split(","):
        # An IPv6 address is in brackets; a socket folder has no port.
        after = host.rpartition("]")[2] if "]" in host else host
        if host.startswith("/") or ":" not in after:
            continue
        port = after.rpartition(":")[2]
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            return False
    return True


def _shown(host: str, port: str) -> str:
    if host.startswith("/"):
        return host
    after = host.rpartition("]")[2] if "]" in host else host
    return host if ":" in after else f"{host}:{port.split(',')[0]}"


def _public(parts: SplitResult, query: dict[str, str]) -> str:
    auth, at, host = parts.netloc.rpartition("@")
    kept = {key: value for key, value in query.items() if key not in ("password", "sslpassword")}
    tail = f"?{urlencode(kept, quote_via=quote)}" if kept else ""
    return f"{parts.scheme}://{auth.partition(':')[0]}{at}{host}{parts.path}{tail}"


def _public_of_environment() -> str:
    env = os.environ
    if service := env.get("PGSERVICE"):
        return f"postgresql://?service={quote(service, safe='')}"
    user, database = (quote(env.get(name, ""), safe="") for name in ("PGUSER", "PGDATABASE"))
    place = f"{user}@" if user else ""
    keys = {"host": env.get("PGHOST", ""), "port": env.get("PGPORT", ""), "sslmode": env.get("PGSSLMODE", "")}
    kept = {key: value for key, value in keys.items() if value}
    tail = f"?{urlencode(kept, quote_via=quote)}" if kept else ""
    return f"postgresql://{place}/{database}{tail}"
