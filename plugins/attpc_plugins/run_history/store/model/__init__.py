"""What the store takes and gives: frozen dataclasses."""
