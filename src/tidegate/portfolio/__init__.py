"""HOW MUCH OF EACH: from wishes to target weights."""
