"""The shell commands `attpc-ioc files` and `attpc-ioc logs`, and what `check --online` reports."""
