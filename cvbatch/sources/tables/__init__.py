"""Tables with a column of encoded images: Parquet, Arrow, and the files of Hugging Face `datasets`."""
