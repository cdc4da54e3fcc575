"""PostgreSQL: the embedded server; TimescaleDB where the server has it."""
