"""Runs as CSV and JSON: what export writes and import reads, older systems' tables included."""
