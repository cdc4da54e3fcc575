"""One runnable module per measured figure: ``python -m benchmarks.<name>``."""
