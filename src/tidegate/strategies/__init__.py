"""WHAT WE WANT: strategies turn features into wishes."""
