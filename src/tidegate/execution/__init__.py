"""HOW: routing, our orders, and their protection."""
