"""Hook specifications and the plugin host."""
