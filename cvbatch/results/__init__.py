"""Results of a run: reading, summary, verification and drawing."""
