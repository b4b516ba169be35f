"""Networks: load them, run them, and turn their answers into columns."""
