"""What a run has left: read, summarised, verified and drawn."""
