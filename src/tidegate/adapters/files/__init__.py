"""History and journal in files."""
