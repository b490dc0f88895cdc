"""Backup and restore of the run history."""
