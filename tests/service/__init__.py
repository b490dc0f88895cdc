"""The IOC as a service."""
