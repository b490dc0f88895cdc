"""Run numbers: reserved in the database, kept in the state database."""
