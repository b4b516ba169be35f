"""SQL over the rows of a run, by DuckDB."""
