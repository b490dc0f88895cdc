"""The tables of a settings file with one ECC server, for tests that need one and never ask it."""

from __future__ import annotations

ONE_ECC = """
[[ecc]]
name = "cobo0"
host = "127.0.0.1"
[[ecc.source]]
id = "CoBo[0]"
[[ecc.source.link]]
name = "data0"
address = "127.0.0.1"
"""
