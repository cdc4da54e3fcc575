"""WHETHER AT ALL: sizing, rules and the gate."""
