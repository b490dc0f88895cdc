"""Run history in PostgreSQL: every run, its conditions and every put."""
