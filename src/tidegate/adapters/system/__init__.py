"""The machine that we run on: its clock."""
