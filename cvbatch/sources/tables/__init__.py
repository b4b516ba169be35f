"""Tables that hold encoded images beside other columns: Parquet, Arrow, and what Hugging Face `datasets` saves."""
