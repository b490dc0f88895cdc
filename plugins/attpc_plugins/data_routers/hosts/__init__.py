"""The ways to reach a host: a folder of this machine, a sentry over HTTP, SSH."""
