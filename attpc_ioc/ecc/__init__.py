"""Talking to ECC servers: SOAP client and poller."""
