"""A synthetic band: songs without end, each with drums, bass, other and vocals as stems that belong together."""
