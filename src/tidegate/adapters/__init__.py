"""THE WORLD: one folder per system; they never import each other."""
