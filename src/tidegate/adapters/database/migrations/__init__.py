"""The migrations: how an empty database becomes ``tables.py``, one revision after the other, and back."""
