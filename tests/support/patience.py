"""How long the tests wait for what has to come. Patience costs nothing where it comes."""

PATIENCE_S = 60.0
"""The limit of a wait, in seconds, where the product promises no time: enough on a busy machine."""

HANGS_S = 5.0
"""The limit of an operation that hangs, where others have to arrive within it: enough on a busy machine."""
