"""How good stems are."""
