"""From the core's event log to the database, and back after a restart."""
