"""The database's schema: its migrations, and what the `db` commands ask of it."""
