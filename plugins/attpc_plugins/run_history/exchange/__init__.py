"""Export and import of runs as CSV and JSON, and import of tables of older systems."""
