"""Connecting to PostgreSQL: where the database is, how it is reached, and what its faults mean."""
