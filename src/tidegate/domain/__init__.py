"""The vocabulary: immutable messages, value types, small state machines. Standard library and msgspec only."""
