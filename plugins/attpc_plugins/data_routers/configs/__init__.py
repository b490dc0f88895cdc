"""The configuration files of each run: read, reported to the history, copied to the backup folder."""
