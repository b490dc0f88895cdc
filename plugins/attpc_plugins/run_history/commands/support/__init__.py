"""Shared parts of the commands: settings, filters, tables and output."""
