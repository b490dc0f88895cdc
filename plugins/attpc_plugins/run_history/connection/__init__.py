"""Connecting to PostgreSQL: location of the database, connections, and the meaning of faults."""
