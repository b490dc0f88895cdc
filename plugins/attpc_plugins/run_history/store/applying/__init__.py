"""Writing to the database: what events change, and imports."""
