"""The numbers: float64 arrays in and out. Knows no order, no venue, no clock."""
