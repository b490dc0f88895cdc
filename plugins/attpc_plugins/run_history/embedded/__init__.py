"""The plugin's own PostgreSQL server: its programs, its folder and its processes."""
