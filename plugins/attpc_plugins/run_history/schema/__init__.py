"""The database's schema: its migrations, and the queries of the `db` commands."""
