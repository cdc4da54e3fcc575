"""THE OTHER SIDE: a venue made of arithmetic, synchronous and deterministic."""
