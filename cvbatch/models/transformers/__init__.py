"""What a folder of Hugging Face's transformers is: its task, its classes, how images are prepared; no torch."""
