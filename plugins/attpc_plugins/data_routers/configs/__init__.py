"""The configuration files that each run used: read, told to the history, copied to the backup folder."""
