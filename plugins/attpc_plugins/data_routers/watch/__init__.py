"""Watches the data routers: polls their hosts, judges the flow of data, and shows it."""
